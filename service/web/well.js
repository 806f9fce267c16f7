// The well: where an image comes in. Chosen, dropped, pasted, or one of the model's own examples.

import { download } from "/static/api.js";
import { element } from "/static/element.js";

const TYPES = "image/png,image/jpeg,image/webp";
const MOST_EXAMPLES = 6;

export class Well {
  /** `onFile(file)` takes what came; errors go to `onProblem`. */
  constructor(root, onFile, onProblem) {
    this.root = root;
    this.take = onFile;
    this.onProblem = onProblem;
    this.input = element("input", { type: "file", accept: TYPES, className: "unseen" });
    this.limits = element("small");
    this.examples = element("div", { className: "examples" });
    const invite = [element("strong", { textContent: "Choose an image" }), element("span", { textContent: "or drop or paste one here" })];
    this.drop = element("label", { className: "drop" }, this.input, ...invite, this.limits);
    root.append(this.drop, this.examples);
    this.listen(root.closest("section"));
  }

  listen(mode) {
    this.input.addEventListener("change", () => {
      const [file] = this.input.files;
      this.input.value = "";
      if (file) this.take(file);
    });
    for (const name of ["dragenter", "dragover"]) mode.addEventListener(name, (event) => this.onDrag(event));
    mode.addEventListener("dragleave", () => delete this.drop.dataset.over);
    mode.addEventListener("drop", (event) => this.onDrop(event));
    document.addEventListener("paste", ({ clipboardData }) => {
      if (!mode.hidden && clipboardData?.files[0]) this.take(clipboardData.files[0]);
    });
  }

  useModel(model, classes) {
    this.limits.textContent = `PNG, JPEG or WebP, up to ${Math.floor(model.limits.upload_bytes / 2 ** 20)} MiB`;
    const shown = classes.filter(({ example }) => example).slice(0, MOST_EXAMPLES);
    const hint = element("span", { textContent: "or try" });
    this.examples.replaceChildren(...(shown.length ? [hint, ...shown.map((one) => this.exampleOf(one))] : []));
  }

  exampleOf({ name, example }) {
    const button = element("button", { type: "button", "aria-label": `Take the example of ${name}` }, element("img", { src: example, alt: "" }));
    button.addEventListener("click", () => download(example, `${name}.png`).then(this.take).catch(this.onProblem));
    return button;
  }

  onDrag(event) {
    event.preventDefault();
    this.drop.dataset.over = "";
  }

  onDrop(event) {
    event.preventDefault();
    delete this.drop.dataset.over;
    const [file] = event.dataTransfer.files;
    if (file) this.take(file);
  }
}
