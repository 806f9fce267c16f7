// Generate: choices in, images out, seen while they settle.

import { json } from "/static/api.js";
import { Board } from "/static/board.js";
import { Choices, Count } from "/static/choices.js";
import { ClassPicker } from "/static/classes.js";
import { element, icon } from "/static/element.js";
import { percent, run, seconds, waiting } from "/static/job.js";
import { Report } from "/static/report.js";
import { curlOfJson, keywords, pythonOf } from "/static/snippet.js";

const MORE = ["seed", "guidance_scale", "guidance_schedule", "temperature", "choice_temperature", "order", "mask_schedule", "top_k"];

export class Generate {
  /** `sends`: where an image may go on to, {reconstruct, edit, vary}, each (url, name, request); `onDone(job)`. */
  constructor(mode, sends, onDone) {
    [this.mode, this.sends, this.onDone] = [mode, sends, onDone];
    this.grid = mode.querySelector(".boards");
    this.button = mode.querySelector(".primary");
    this.classes = new ClassPicker(mode.querySelector(".classes"));
    this.count = new Count(mode.querySelector(".counts"));
    const [first, more] = mode.querySelectorAll(".choices");
    this.choices = Choices.join(new Choices(first, ["steps"]), new Choices(more, MORE));
    this.report = new Report(mode, this.choices);
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
    if (!this.grid.hasChildNodes()) this.layOut(1, 1);
    this.button.disabled = false;
  }

  layOut(count, steps) {
    const boards = Array.from({ length: count }, () => new Board(this.cells, steps));
    this.grid.dataset.count = count;
    this.grid.replaceChildren(...boards.map((board) => board.element));
    return boards;
  }

  async generate() {
    const body = { model: this.model.name, class_id: this.classes.value, num_images: this.count.value, ...this.choices.values() };
    this.report.clear();
    this.button.disabled = true;
    const boards = this.layOut(body.num_images, body.steps ?? this.model.sampling.steps);
    try {
      const job = await run("/v1/generations", json(body), (started) => this.report.follow(started), (type, data) => this.onEvent(boards, type, data));
      if (job.status === "cancelled") this.stop(boards, "Cancelled.");
      else await this.finish(boards, job);
    } catch (reason) {
      this.stop(boards, "");
      this.report.fail(reason);
    } finally {
      this.report.follow(null);
      this.button.disabled = false;
    }
  }

  onEvent(boards, type, data) {
    if (type === "preview") boards[data.index].preview(data);
    else if (type === "step") this.report.say(`Step ${data.taken} of ${data.steps}, ${percent(data.known)} of the codes known`);
    else if (type === "lost") this.report.announce("The connection broke; the job goes on, and so does this page as soon as it can.");
    else {
      boards.forEach((board) => board.begin(type));
      this.report.announce(type === "queued" ? waiting(data) : "A worker has begun");
    }
  }

  stop(boards, said) {
    boards.forEach((board) => board.begin("idle"));
    this.report.announce(said);
  }

  async finish(boards, job) {
    const late = await Promise.all(job.images.map((url, index) => boards[index].finish(url, nameOf(job, index), ...this.captionOf(job, index))));
    this.conclude(job, Math.max(...late) > 0);
    this.onDone(job);
  }

  /** A job from the history, with its choices. */
  async show(job) {
    this.report.clear();
    this.classes.value = job.request.class_id;
    this.count.value = job.request.num_images;
    this.choices.set(job.request);
    const boards = this.layOut(job.images.length, 1);
    await Promise.all(job.images.map((url, index) => boards[index].finish(url, nameOf(job, index), ...this.captionOf(job, index))));
    this.conclude(job, false);
  }

  conclude(job, late) {
    const { ran_s: ran, total_s: total } = job.timings;
    const images = job.images.length === 1 ? "1 image" : `${job.images.length} images`;
    const slower = late ? ". Played slower than it ran" : "";
    this.report.announce(`${images} in ${job.request.steps} steps: ${seconds(ran)} on the device, ${seconds(total)} in all${slower}`);
    const body = bodyOf(job, this.model);
    const all = job.images.length > 1 ? ["for index, image in enumerate(images):", '    image.save(f"out{index}.png")'] : ['images[0].save("out.png")'];
    this.report.snippet.offer({ curl: curlOfJson("/generate", body), Python: pythonOf(`images = client.generate(${keywords(body)})`, ...all) });
  }

  /** Seed and what can be done with image `index`. */
  captionOf(job, index) {
    const [url, seed, name] = [job.images[index], job.seeds[index], nameOf(job, index)];
    const file = `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.png`;
    const number = element("code", { textContent: seed, title: "The seed of this image" });
    const save = element("a", { href: url, download: file, className: "action", title: "Download", "aria-label": `Download ${name}` }, icon("download"), "Save");
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

/** What to send to get the same: what the model would choose itself is left out. */
function bodyOf({ request }, { name: model, isDefault, sampling }) {
  const { class_id, class_name, num_images, steps, seed } = request;
  const named = class_name ? { class_name } : class_id === null ? {} : { class_id };
  const changed = MORE.filter((name) => name !== "seed" && (request[name] ?? null) !== (sampling[name] ?? null));
  return { ...(isDefault ? {} : { model }), ...named, ...(num_images > 1 ? { num_images } : {}), steps, seed, ...Object.fromEntries(changed.map((name) => [name, request[name]])) };
}
