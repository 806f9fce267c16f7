// Reconstruct: an image in, the same through the codes, and the two compared.

import { Problem, call, download, form } from "/static/api.js";
import { showCodes } from "/static/codemap.js";
import { Compare } from "/static/compare.js";
import { element } from "/static/element.js";
import { run, seconds, waiting } from "/static/job.js";
import { Report } from "/static/report.js";
import { curlOfForm, keywords, pythonOf } from "/static/snippet.js";
import { Well } from "/static/well.js";

export class Reconstruct {
  constructor(mode, onDone) {
    [this.mode, this.onDone] = [mode, onDone];
    this.figures = mode.querySelector(".figures");
    this.codemap = mode.querySelector(".codemap");
    this.report = new Report(mode);
    this.compare = new Compare(mode.querySelector(".compare"), "original", "reconstruction");
    this.well = new Well(mode.querySelector(".well"), (file) => this.reconstruct(file), (reason) => this.report.fail(reason));
    this.latest = 0; // a newer image takes the place of one that is still under way
  }

  useModel(model, classes) {
    this.model = model;
    this.well.useModel(model, classes);
    this.mode.querySelector(".rate").textContent = rateOf(model);
  }

  /** Take an image that this service made. */
  async take(url, name) {
    await this.reconstruct(await download(url, name));
  }

  async reconstruct(file) {
    const turn = ++this.latest;
    const isLatest = () => turn === this.latest;
    this.clear();
    try {
      await this.preview(file);
      const path = `/v1/reconstructions?model=${encodeURIComponent(this.model.name)}`;
      const onStart = (job) => isLatest() && this.report.follow(job);
      const job = await run(path, form({ image: file }), onStart, (type, data) => isLatest() && this.onEvent(type, data));
      if (isLatest()) await this.finish(job, file.name);
    } catch (reason) {
      if (isLatest()) this.fail(reason);
    } finally {
      if (isLatest()) this.report.follow(null);
    }
  }

  clear() {
    this.report.clear();
    this.figures.hidden = true;
    this.codemap.hidden = true;
  }

  /** The image as it came, while its job is under way; one that the browser cannot read is left to the service. */
  async preview(file) {
    const url = URL.createObjectURL(file);
    try {
      await this.compare.show(url, null);
      this.mode.dataset.state = "full";
    } catch (reason) {
      if (!(reason instanceof Problem)) throw reason;
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  onEvent(type, data) {
    if (type === "queued") this.report.announce(waiting(data));
    else if (type === "started") this.report.announce("A worker has begun");
    else if (type === "lost") this.report.announce("The connection broke; the job goes on.");
  }

  async finish(job, name) {
    if (job.status === "cancelled") return this.empty("Cancelled.");
    await this.show(job, name);
    return this.onDone(job);
  }

  /** A finished job, now or from the history. */
  async show(job, name = "photo.jpg") {
    this.clear();
    await this.compare.show(job.request.image, job.images[0]);
    this.mode.dataset.state = "full";
    this.showFigures(job);
    const { ran_s: ran, total_s: total } = job.timings;
    this.report.announce(`${job.width} × ${job.height} pixels: ${seconds(ran)} on the device, ${seconds(total)} in all`);
    this.report.snippet.offer(snippetsOf(name, this.model));
    if (job.links.codes) showCodes(this.codemap, await call(job.links.codes), this.model.codebook_size);
  }

  showFigures({ fidelity, width, height }) {
    const { psnr_db, ssim, bits_per_pixel, codes_bytes } = fidelity;
    const raw = width * height * 3;
    this.figures.replaceChildren(
      figure("Codes", size(codes_bytes), `of ${size(raw)}: 1 to ${Math.round(raw / codes_bytes)}`),
      figure("Bits a pixel", bits_per_pixel.toFixed(3), "of 24"),
      figure("PSNR", psnr_db === null ? "equal" : `${psnr_db.toFixed(2)} dB`, "higher is closer"),
      figure("SSIM", ssim === null ? "–" : ssim.toFixed(3), "1 is equal"),
    );
    this.figures.hidden = false;
  }

  empty(said) {
    delete this.mode.dataset.state;
    this.compare.root.hidden = true;
    this.report.announce(said);
  }

  fail(reason) {
    this.empty("");
    this.report.fail(reason);
  }
}

/** What a model makes of a few pixels, in a sentence. */
function rateOf({ downsampling_factor: side, code_channels: channels, codebook_size: size }) {
  const bytes = Number(((channels * Math.log2(size)) / 8).toFixed(1));
  const codes = channels === 1 ? "one code" : `${channels} codes`;
  return `${side} × ${side} pixels, ${3 * side * side} bytes, become ${codes} out of ${size}: ${bytes} bytes.`;
}

function snippetsOf(file, { name, isDefault }) {
  const path = isDefault ? "/reconstruct" : `/reconstruct?model=${name}`;
  const choices = isDefault ? "" : `, ${keywords({ model: name })}`;
  const call = `result = client.reconstruct(${JSON.stringify(file)}${choices})`;
  return { curl: curlOfForm(path, { image: `@${file}` }), Python: pythonOf(call, 'result.save("out.png")') };
}

function figure(name, value, beside) {
  const small = element("small", { textContent: beside });
  return element("div", {}, element("dt", { textContent: name }), element("dd", {}, value, small));
}

/** Bytes with three digits or so: 512 B, 19.1 kB, 36.0 MB. */
function size(bytes) {
  const [unit, divisor] = bytes < 1e3 ? ["B", 1] : bytes < 1e6 ? ["kB", 1e3] : ["MB", 1e6];
  return `${divisor === 1 ? bytes : (bytes / divisor).toFixed(1)} ${unit}`;
}
