// The upper half: choices in, images out.

import { call, run, seconds, standing } from "/static/api.js";
import { partsOf } from "/static/parts.js";

const form = document.getElementById("generate-form");
const grid = document.getElementById("grid");
const button = document.getElementById("generate-button");
const parts = partsOf("generate");
const SLIDERS = { steps: "steps", guidance: "guidance_scale", temperature: "temperature", choice: "choice_temperature" };

/** Fill the form with what the model offers; `reconstruct(url, name)` is where an image may go on to. */
export async function setUp(model, reconstruct) {
  const { classes } = await call(model.links.classes);
  classes.forEach(({ id, name }) => addChoice(document.getElementById("classes"), "class_id", id, name, "chip"));
  for (let count = 1; count <= model.limits.num_images; count += 1) {
    addChoice(document.getElementById("counts"), "num_images", count, String(count), "");
  }
  form.elements.num_images.value = String(model.limits.num_images);
  document.getElementById("steps").max = model.limits.steps;
  for (const [id, field] of Object.entries(SLIDERS)) setUpSlider(id, model.sampling[field]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate(reconstruct);
  });
}

function addChoice(parent, name, value, text, className) {
  const label = document.createElement("label");
  label.className = className;
  const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
  const span = Object.assign(document.createElement("span"), { textContent: text });
  label.append(input, span);
  parent.append(label);
}

function setUpSlider(id, value) {
  const slider = document.getElementById(id);
  const shown = document.getElementById(`${id}-value`);
  slider.value = value;
  const show = () => (shown.textContent = slider.value);
  slider.addEventListener("input", show);
  show();
}

/** The request's body; a seed that is left out is drawn by the service. */
function choices() {
  const data = new FormData(form);
  const body = { num_images: Number(data.get("num_images")) };
  if (data.get("class_id") !== "") body.class_id = Number(data.get("class_id"));
  for (const field of Object.values(SLIDERS)) body[field] = Number(data.get(field));
  const seed = data.get("seed").trim();
  if (seed !== "") body.seed = Number.isNaN(Number(seed)) ? seed : Number(seed);
  return body;
}

async function generate(reconstruct) {
  const body = choices();
  parts.clear();
  button.disabled = true;
  showMasked(body.num_images);
  try {
    const options = { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const job = await run("/v1/generations", options, (seen) => {
      parts.follow(seen);
      parts.say(standing(seen));
    });
    if (job.status === "cancelled") showEmpty("Cancelled.");
    else showImages(job, reconstruct);
  } catch (reason) {
    showEmpty("Nothing was generated.");
    parts.show(reason);
  } finally {
    parts.follow(null);
    button.disabled = false;
  }
}

function showEmpty(text) {
  parts.say("");
  grid.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: text }));
}

function showMasked(count) {
  grid.dataset.count = count;
  const tiles = Array.from({ length: count }, () => {
    const tile = Object.assign(document.createElement("div"), { className: "masked" });
    tile.setAttribute("aria-hidden", "true");
    tile.append(...Array.from({ length: 64 }, () => document.createElement("i")));
    return tile;
  });
  grid.replaceChildren(...tiles);
}

function showImages(job, reconstruct) {
  grid.replaceChildren(...job.images.map((url, index) => tileOf(job, url, index, reconstruct)));
  const { ran_s: ran, total_s: total } = job.timings;
  const count = job.images.length === 1 ? "1 image" : `${job.images.length} images`;
  parts.say(`${count}, ${job.request.steps} steps: ${seconds(ran)} on the device, ${seconds(total)} in all`);
  parts.curl(curlOf(job.request));
}

function tileOf(job, url, index, reconstruct) {
  const seed = job.seeds[index];
  const name = job.request.class_name ?? "image";
  const image = Object.assign(new Image(), { src: url, alt: `${name}, seed ${seed}` });
  const caption = document.createElement("figcaption");
  const number = Object.assign(document.createElement("code"), { textContent: seed });
  number.title = "Seed of this image";
  const reuse = linkButton("Keep seed", `Use seed ${seed} for the next images`, () => {
    form.elements.seed.value = seed;
    form.elements.seed.focus();
  });
  const on = linkButton("Reconstruct", `Reconstruct ${image.alt}`, () => reconstruct(url, `${name}-${seed}.png`));
  caption.append(number, reuse, on);
  const tile = Object.assign(document.createElement("figure"), { className: "tile" });
  tile.append(image, caption);
  return tile;
}

function linkButton(text, label, onClick) {
  const link = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: text });
  link.setAttribute("aria-label", label);
  link.addEventListener("click", onClick);
  return link;
}

function curlOf(request) {
  const { class_id, num_images, steps, seed, guidance_scale, temperature, choice_temperature } = request;
  const body = { class_id, num_images, steps, seed, guidance_scale, temperature, choice_temperature };
  const lines = [`curl -X POST ${location.origin}/generate`, "-H 'content-type: application/json'"];
  const asImage = num_images === 1 ? ["-H 'accept: image/png' -o out.png"] : [];
  return [...lines, ...asImage, `-d '${JSON.stringify(body)}'`];
}
