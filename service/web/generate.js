// Generate: choices in, images out, seen while they settle.

import { json } from "/static/api.js";
import { Boards } from "/static/boards.js";
import { Choices, Count } from "/static/choices.js";
import { ClassPicker } from "/static/classes.js";
import { element, icon } from "/static/element.js";
import { run, seconds } from "/static/job.js";
import { Report } from "/static/report.js";
import { curlOfJson, keywords, pythonOf } from "/static/snippet.js";

const SAMPLING = ["guidance_scale", "guidance_schedule", "temperature", "choice_temperature", "order", "mask_schedule", "top_k"];
const MORE = ["seed", ...SAMPLING];

export class Generate {
  /** `sends`: where an image may go on to, {reconstruct, edit, vary}, each (url, name, request); `onDone(job)`. */
  constructor(mode, sends, onDone) {
    [this.mode, this.sends, this.onDone] = [mode, sends, onDone];
    this.button = mode.querySelector(".primary");
    this.classes = new ClassPicker(mode.querySelector(".classes"));
    this.count = new Count(mode.querySelector(".counts"));
    const [first, more] = mode.querySelectorAll(".choices");
    this.choices = Choices.join(new Choices(first, ["steps"]), new Choices(more, MORE));
    this.report = new Report(mode, this.choices);
    this.boards = new Boards(mode.querySelector(".boards"), this.report);
    mode.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.generate();
    });
  }

  useModel(model, classes) {
    this.model = model;
    this.cells = model.image_size / model.downsampling_factor;
    this.choices.useModel(model);
    this.count.offer(model.limits.num_images, Math.min(4, model.limits.num_images));
    this.classes.useClasses(classes);
    if (this.boards.all.length === 0) this.boards.layOut(1, this.cells, 1);
    this.button.disabled = false;
  }

  async generate() {
    const [class_id, num_images, choices] = [this.classes.value, this.count.value, this.choices.values()];
    const body = { model: this.model.name, class_id, num_images, ...choices };
    this.report.clear();
    this.button.disabled = true;
    this.boards.layOut(num_images, this.cells, choices.steps ?? this.model.sampling.steps);
    try {
      const onStart = (job) => this.report.follow(job);
      const job = await run("/v1/generations", json(body), onStart, (type, data) => this.boards.tell(type, data));
      if (job.status === "cancelled") this.stop("Cancelled.");
      else await this.finish(job);
    } catch (reason) {
      this.stop("");
      this.report.fail(reason);
    } finally {
      this.report.follow(null);
      this.button.disabled = false;
    }
  }

  stop(said) {
    this.boards.begin("idle");
    this.report.announce(said);
  }

  async finish(job) {
    this.conclude(job, await this.fill(job));
    this.onDone(job);
  }

  fill(job) {
    return this.boards.fill(job, (index) => nameOf(job, index), (index) => this.captionOf(job, index));
  }

  /** A job from the history, with its choices. */
  async show(job) {
    this.report.clear();
    this.classes.value = job.request.class_id;
    this.count.value = job.request.num_images;
    this.choices.set(job.request);
    this.boards.layOut(job.images.length, this.cells, 1);
    await this.fill(job);
    this.conclude(job, false);
  }

  conclude(job, late) {
    const { ran_s: ran, total_s: total } = job.timings;
    const images = job.images.length === 1 ? "1 image" : `${job.images.length} images`;
    const times = `${seconds(ran)} on the device, ${seconds(total)} in all`;
    this.report.announce(`${images} in ${job.request.steps} steps: ${times}${late ? ". Played slower than it ran" : ""}`);
    this.report.snippet.offer(snippetsOf(job, this.model));
  }

  /** Seed and what can be done with image `index`. */
  captionOf(job, index) {
    const [url, seed, name] = [job.images[index], job.seeds[index], nameOf(job, index)];
    const file = `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.png`;
    const number = element("code", { textContent: seed, title: "The seed of this image" });
    const link = { href: url, download: file, className: "action", title: "Save", "aria-label": `Save ${name}` };
    const save = element("a", link, icon("download"), "Save");
    const actions = [
      action("seed", "Keep seed", `Keep the seed of ${name}`, () => this.keep(seed)),
      save,
      action("reconstruct", "Reconstruct", `Reconstruct ${name}`, () => this.sends.reconstruct(url, file)),
      action("edit", "Edit", `Edit ${name}`, () => this.sends.edit(url, file, job.request)),
      action("vary", "Vary", `Vary ${name}`, () => this.sends.vary(url, file, job.request)),
    ];
    const offered = this.model.tasks.includes("edit") ? actions : actions.slice(0, 3);
    return [number, element("div", { className: "actions" }, ...offered)];
  }

  keep(seed) {
    this.choices.set({ seed });
    const { input } = this.choices.fields.seed;
    input.closest("details").open = true;
    input.focus();
  }
}

function action(name, text, label, onClick) {
  const button = element("button", { type: "button", className: "action", title: text, "aria-label": label }, icon(name), text);
  button.addEventListener("click", onClick);
  return button;
}

const nameOf = (job, index) => `${job.request.class_name ?? "image"}, seed ${job.seeds[index]}`;

function snippetsOf(job, model) {
  const body = bodyOf(job, model);
  const one = ['images[0].save("out.png")'];
  const several = ["for index, image in enumerate(images):", '    image.save(f"out{index}.png")'];
  const call = `images = client.generate(${keywords(body)})`;
  return { curl: curlOfJson("/generate", body), Python: pythonOf(call, ...(job.images.length > 1 ? several : one)) };
}

/** What to send to get the same: what the model would choose itself is left out. */
function bodyOf({ request }, { name: model, isDefault, sampling }) {
  const { class_id, class_name, num_images, steps, seed } = request;
  const named = class_name ? { class_name } : class_id === null ? {} : { class_id };
  const changed = SAMPLING.filter((name) => (request[name] ?? null) !== (sampling[name] ?? null));
  const choices = Object.fromEntries(changed.map((name) => [name, request[name]]));
  const several = num_images > 1 ? { num_images } : {};
  return { ...(isDefault ? {} : { model }), ...named, ...several, steps, seed, ...choices };
}
