// The lower half: an image in, the same through the codes, and the two compared.

import { Problem, run, seconds, standing } from "/static/api.js";
import { partsOf } from "/static/parts.js";

const byId = (id) => document.getElementById(id);
const [compare, pair, original, result, split] = ["compare", "pair", "original", "reconstruction", "split"].map(byId);
const [drop, file, figures] = ["drop", "file", "figures"].map(byId);
const SMALLEST_SHOWN_PX = 420;
const TALLEST_SHOWN_PX = 640;
const parts = partsOf("reconstruct");
let latest = 0; // a newer image takes the place of one that is still under way

export function setUp(model) {
  const megabytes = Math.floor(model.limits.upload_bytes / 2 ** 20);
  byId("upload-limits").textContent = `PNG, JPEG or WebP, up to ${megabytes} MiB`;
  file.addEventListener("change", () => {
    if (file.files[0]) reconstruct(file.files[0]);
    file.value = "";
  });
  split.addEventListener("input", () => pair.style.setProperty("--split", `${split.value}%`));
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, onDrag);
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", onDrop);
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files[0]) reconstruct(clipboardData.files[0]);
  });
}

function onDrag(event) {
  event.preventDefault();
  drop.dataset.over = "";
}

function onDrop(event) {
  event.preventDefault();
  delete drop.dataset.over;
  const [dropped] = event.dataTransfer.files;
  if (dropped) reconstruct(dropped);
}

/** Take an image that this service made. */
export async function reconstructUrl(url, name) {
  const blob = await (await fetch(url)).blob();
  byId("reconstruct").scrollIntoView({ behavior: "smooth", block: "start" });
  await reconstruct(new File([blob], name, { type: blob.type }));
}

async function reconstruct(image) {
  const turn = ++latest;
  const isLatest = () => turn === latest;
  parts.clear();
  figures.hidden = true;
  compare.dataset.state = "running";
  try {
    await preview(image);
    const body = new FormData();
    body.append("image", image);
    const job = await run("/v1/reconstructions", { body }, (seen) => {
      if (isLatest()) {
        parts.follow(seen);
        parts.say(standing(seen));
      }
    });
    if (isLatest()) await show(job, image.name);
  } catch (reason) {
    if (isLatest()) fail(reason);
  } finally {
    if (isLatest()) parts.follow(null);
  }
}

/** The image as it came, while its job is under way; one that the browser cannot read is left to the service. */
async function preview(image) {
  const url = URL.createObjectURL(image);
  try {
    await load(original, url);
    setSize(original.naturalWidth, original.naturalHeight);
    pair.hidden = false;
    compare.querySelector(".empty").hidden = true;
  } catch (reason) {
    if (!(reason instanceof Problem)) throw reason;
    pair.hidden = true;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function load(element, url) {
  return new Promise((resolve, reject) => {
    element.onload = resolve;
    element.onerror = () => reject(new Problem("The image could not be shown."));
    element.src = url;
  });
}

/** Small images are shown larger, tall ones smaller, and none wider than the stage. */
function setSize(width, height) {
  const larger = Math.max(1, SMALLEST_SHOWN_PX / Math.max(width, height));
  const scale = Math.min(larger, TALLEST_SHOWN_PX / height);
  pair.style.setProperty("--shown-width", `${Math.max(1, width * scale)}px`);
}

async function show(job, name) {
  if (job.status === "cancelled") {
    compare.dataset.state = "empty";
    parts.say("Cancelled.");
    return;
  }
  await Promise.all([load(original, job.request.image), load(result, job.images[0])]);
  setSize(job.width, job.height);
  pair.hidden = false;
  compare.querySelector(".empty").hidden = true;
  compare.dataset.state = "done";
  showFigures(job);
  const { ran_s: ran, total_s: total } = job.timings;
  parts.say(`${job.width} × ${job.height} pixels: ${seconds(ran)} on the device, ${seconds(total)} in all`);
  const quoted = `image=@${name}`.replaceAll("'", "'\\''");
  parts.curl([`curl -F '${quoted}' ${location.origin}/reconstruct`, "-H 'accept: image/png' -o out.png"]);
}

function showFigures({ fidelity, width, height }) {
  const { psnr_db, ssim, bits_per_pixel, codes_bytes } = fidelity;
  figure("psnr", psnr_db === null ? "equal" : `${psnr_db.toFixed(2)} dB`);
  figure("ssim", ssim === null ? "–" : ssim.toFixed(3));
  figure("bits", bits_per_pixel.toFixed(3), "of 24");
  figure("bytes", size(codes_bytes), `of ${size(width * height * 3)}`);
  figures.hidden = false;
}

/** Bytes with three digits or so: 512 B, 19.1 kB, 36.0 MB. */
function size(bytes) {
  const [unit, divisor] = bytes < 1e3 ? ["B", 1] : bytes < 1e6 ? ["kB", 1e3] : ["MB", 1e6];
  return `${divisor === 1 ? bytes : (bytes / divisor).toFixed(1)} ${unit}`;
}

function figure(id, value, beside = "") {
  byId(id).replaceChildren(value, Object.assign(document.createElement("small"), { textContent: beside }));
}

function fail(reason) {
  compare.dataset.state = "empty";
  pair.hidden = true;
  compare.querySelector(".empty").hidden = false;
  parts.say("");
  parts.show(reason);
}
