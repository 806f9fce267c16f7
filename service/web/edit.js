// Edit: an image, a mask painted over it, and what the model puts there.

import { download, form } from "/static/api.js";
import { Boards } from "/static/boards.js";
import { Box } from "/static/box.js";
import { Brush } from "/static/brush.js";
import { Choices, Count } from "/static/choices.js";
import { ClassPicker } from "/static/classes.js";
import { Compare } from "/static/compare.js";
import { element, icon } from "/static/element.js";
import { run, seconds } from "/static/job.js";
import { Report } from "/static/report.js";
import { curlOfForm, keywords, pythonOf } from "/static/snippet.js";
import { Well } from "/static/well.js";

const GUIDANCE = ["guidance_scale", "guidance_schedule"];
const MORE = ["steps", "seed", ...GUIDANCE, "temperature", "choice_temperature", "order", "mask_schedule", "top_k"];
const VARIED = 0.6; // enough codes anew to see a difference, few enough to see the likeness

export class Edit {
  constructor(mode, onDone) {
    [this.mode, this.onDone] = [mode, onDone];
    this.button = mode.querySelector(".primary");
    this.strip = mode.querySelector(".variants");
    this.classes = new ClassPicker(mode.querySelector(".classes"));
    this.count = new Count(mode.querySelector(".counts"));
    const [first, more] = mode.querySelectorAll(".choices");
    this.choices = Choices.join(new Choices(first, ["strength", "feather_px", "expand"]), new Choices(more, MORE));
    this.report = new Report(mode, this.choices);
    this.boards = new Boards(this.strip, this.report);
    this.brush = new Brush(mode.querySelector(".easel"), () => this.leave());
    this.box = new Box(mode.querySelector(".box"), (box) => this.paint(box));
    this.compare = new Compare(mode.querySelector(".compare"), "before", "after");
    const again = button("Paint again", () => this.turnTo("paint"), "secondary");
    this.compare.root.append(element("div", { className: "tools" }, again, button("Another image", () => this.leave(), "secondary")));
    this.well = new Well(mode.querySelector(".well"), (file) => this.open(file), (reason) => this.report.fail(reason));
    mode.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.edit();
    });
  }

  useModel(model, classes) {
    this.model = model;
    this.cells = model.image_size / model.downsampling_factor;
    this.choices.useModel(model);
    this.count.offer(model.limits.num_images, 1);
    this.well.useModel(model, classes);
    this.classes.useClasses(classes);
  }

  // -- the image --------------------------------------------------------------------------------

  async open(file) {
    this.report.clear();
    const url = URL.createObjectURL(file);
    try {
      await this.brush.open(url, this.model.downsampling_factor);
      this.file = file;
      this.box.fit(this.brush.width, this.brush.height);
      this.turnTo("paint");
    } catch (reason) {
      this.report.fail(reason);
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /** Take an image that this service made, of a known class. */
  async take(url, name, request) {
    this.classes.value = request.class_id;
    this.choices.set({ strength: 1 });
    await this.open(await download(url, name));
  }

  /** Variants of an image that this service made, at once. */
  async vary(url, name, request) {
    await this.take(url, name, request);
    this.choices.set({ strength: VARIED, seed: null });
    this.count.value = this.model.limits.num_images;
    await this.edit();
  }

  leave() {
    this.file = null;
    this.report.clear();
    this.turnTo("empty");
  }

  paint(box) {
    this.turnTo("paint");
    this.brush.addBox(box);
  }

  /** empty: an image is wanted; paint: a mask; running; done: before and after. */
  turnTo(state) {
    this.mode.dataset.state = state;
    this.mode.querySelector(".easel").hidden = state !== "paint";
    this.compare.root.hidden = state !== "done";
    this.strip.hidden = state === "empty" || state === "paint";
    this.button.disabled = state === "empty" || state === "running";
  }

  // -- the job ----------------------------------------------------------------------------------

  async fields() {
    const class_id = this.classes.value;
    const { expand, ...choices } = this.choices.values();
    return {
      image: this.file,
      ...(this.brush.isEmpty ? {} : { mask: await this.brush.mask() }),
      ...(class_id === null ? {} : { class_id }),
      model: this.model.name,
      num_images: this.count.value,
      ...choices,
      ...(expand > 0 ? { expand: Array(4).fill(expand).join() } : {}),
    };
  }

  async edit() {
    this.report.clear();
    const fields = await this.fields();
    this.boards.layOut(fields.num_images, this.cells, fields.steps ?? this.model.sampling.steps);
    this.turnTo("running");
    try {
      const onStart = (job) => this.report.follow(job);
      const job = await run("/v1/edits", form(fields), onStart, (type, data) => this.boards.tell(type, data));
      if (job.status === "cancelled") this.stop("Cancelled.");
      else await this.finish(job);
    } catch (reason) {
      this.stop("");
      this.report.fail(reason);
    } finally {
      this.report.follow(null);
    }
  }

  stop(said) {
    this.turnTo("paint");
    this.report.announce(said);
  }

  async finish(job) {
    await this.fill(job);
    await this.conclude(job);
    this.onDone(job);
  }

  /** A job from the history. */
  async show(job) {
    this.report.clear();
    this.boards.layOut(job.images.length, this.cells, 1);
    this.file = await download(job.request.image, "image.png");
    await this.brush.open(job.request.image, this.model.downsampling_factor);
    this.box.fit(job.width, job.height);
    this.classes.value = job.request.class_id;
    this.choices.set(job.request);
    await this.fill(job);
    await this.conclude(job);
  }

  fill(job) {
    return this.boards.fill(job, (index) => `Variant ${index + 1}`, (index) => [this.choiceOf(job, index)]);
  }

  async conclude(job) {
    await this.choose(job, 0);
    this.turnTo("done");
    const { ran_s: ran, total_s: total } = job.timings;
    this.report.announce(`Made anew in ${job.request.steps} steps: ${seconds(ran)} on the device, ${seconds(total)} in all`);
    this.report.snippet.offer(snippetsOf(job, this.model));
  }

  async choose(job, index) {
    await this.compare.show(job.request.image, job.images[index]);
    this.strip.querySelectorAll(".pick").forEach((pick, at) => pick.setAttribute("aria-pressed", String(at === index)));
  }

  /** What can be done with variant `index`. */
  choiceOf(job, index) {
    const [url, file] = [job.images[index], `edit-${job.seeds[index]}.png`];
    const number = index + 1;
    const pick = button(`Variant ${number}`, () => this.choose(job, index), "pick");
    const link = { href: url, download: file, className: "action", title: "Save", "aria-label": `Save variant ${number}` };
    const save = element("a", link, icon("download"), "Save");
    const on = button("", () => this.take(url, file, job.request), "action");
    on.title = "Paint on this";
    on.setAttribute("aria-label", `Paint on variant ${number}`);
    on.append(icon("edit"), "Paint on this");
    return element("div", { className: "actions" }, pick, save, on);
  }
}

function button(text, onClick, className) {
  const node = element("button", { type: "button", className, textContent: text });
  node.addEventListener("click", onClick);
  return node;
}

/** What went in is fetched first: the service has the image as it was edited, and the mask that was painted. */
function snippetsOf({ request }, { name: model, isDefault }) {
  const { class_id, class_name, strength, feather_px, seed, steps } = request;
  const named = class_name ? { class_name } : class_id === null ? {} : { class_id };
  const choices = { ...(isDefault ? {} : { model }), ...named, strength, feather_px, steps, seed };
  const inputs = Object.entries({ image: request.image, mask: request.mask }).filter(([, url]) => url);
  const files = Object.fromEntries(inputs.map(([name]) => [name, `@${name}.png`]));
  const fetched = inputs.map(([name, url]) => `curl -o ${name}.png ${location.origin}${url}`);
  const opened = inputs.map(([name, url]) => `${name} = httpx.get("${location.origin}${url}").content`);
  const call = `images = client.edit(image, ${request.mask ? "mask=mask, " : ""}${keywords(choices)})`;
  return {
    curl: [...fetched, curlOfForm("/edit", { ...files, ...choices })].join("\n"),
    Python: ["import httpx", pythonOf(...opened, call, 'images[0].save("out.png")')].join("\n"),
  };
}
