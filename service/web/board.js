// A board: one image that is being made. Its codes lie there masked, and settle frame by frame.

import { element } from "/static/element.js";
import { percent } from "/static/job.js";
import { Player } from "/static/player.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Board {
  /** `cells`: codes along a side; `steps`: previews to expect. */
  constructor(cells, steps) {
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.known = element("span", { className: "known" });
    this.picture = element("div", { className: "board" }, element("div", { className: "cells" }), this.canvas);
    this.picture.style.setProperty("--cells", cells);
    this.caption = element("figcaption", {}, this.known);
    this.element = element("figure", {}, this.picture, this.caption);
    this.player = new Player((frame) => this.draw(frame), steps);
  }

  /** The job has begun, or begins again with another worker. */
  begin(state) {
    this.player.drop();
    this.picture.dataset.state = state;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.known.textContent = "";
  }

  /** One more step: a `preview` event. */
  preview({ url, known }) {
    if (still.matches) this.known.textContent = `${percent(known)} known`;
    else this.player.add({ image: loaded(url), known });
  }

  async draw({ image, known }) {
    const frame = await image;
    if (frame === null) return; // a preview that is gone is no loss: the next one comes
    const { canvas } = this;
    if (canvas.width !== frame.naturalWidth) Object.assign(canvas, { width: frame.naturalWidth, height: frame.naturalHeight });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(frame, 0, 0);
    this.known.textContent = `${percent(known)} known`;
  }

  /** Put the finished image in place, once all frames were seen; resolves with how many came late. */
  async finish(url, alt, ...caption) {
    const image = element("img", { src: url, alt });
    const [late] = await Promise.all([this.player.end(), image.decode().catch(() => null)]);
    this.picture.dataset.state = "done";
    this.picture.append(image);
    this.caption.replaceChildren(...caption);
    return late;
  }
}

/** The image behind `url`, decoded; null when it cannot be had. */
function loaded(url) {
  const image = element("img", { src: url });
  return image.decode().then(() => image, () => null);
}
