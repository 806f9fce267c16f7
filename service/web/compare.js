// Compare: two images of one size, the first to the left of a line that can be moved.

import { Problem } from "/static/api.js";
import { element } from "/static/element.js";

const SMALLEST_SHOWN_PX = 680;
const TALLEST_SHOWN_PX = 560;
const BESIDE_PX = 420; // of a window's height, for all that stands above and below

export class Compare {
  constructor(root, before, after) {
    this.root = root;
    this.before = element("img", { alt: before });
    this.after = element("img", { alt: after, className: "after" });
    const label = `How much of the ${before} is shown`;
    this.split = element("input", { type: "range", min: 0, max: 100, value: 50, step: 0.1, "aria-label": label });
    const tags = [element("span", { className: "tag left", textContent: before }), element("span", { className: "tag right", textContent: after })];
    this.pair = element("div", { className: "pair" }, this.before, this.after, ...tags, element("span", { className: "line" }), this.split);
    this.split.addEventListener("input", () => this.pair.style.setProperty("--split", `${this.split.value}%`));
    root.append(this.pair);
  }

  /** Show two images; null for the second while it is being made. */
  async show(before, after) {
    this.pair.toggleAttribute("data-waiting", after === null);
    await Promise.all([load(this.before, before), after === null ? null : load(this.after, after)]);
    setShownSize(this.pair, this.before.naturalWidth, this.before.naturalHeight);
    this.root.hidden = false;
  }
}

export function load(image, url) {
  image.src = url;
  return image.decode().catch(() => {
    throw new Problem("The image could not be shown.");
  });
}

/** Small images are shown larger, tall ones smaller, and none wider than its place. */
export function setShownSize(node, width, height) {
  const tallest = Math.min(TALLEST_SHOWN_PX, Math.max(280, innerHeight - BESIDE_PX));
  const scale = Math.min(Math.max(1, SMALLEST_SHOWN_PX / Math.max(width, height)), tallest / height);
  node.style.setProperty("--shown-width", `${Math.max(1, width * scale)}px`);
}
