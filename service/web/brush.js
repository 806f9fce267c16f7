// The mask brush: strokes and boxes over an image, kept in the image's own pixels, each of which can be taken back.
// What is painted over looks as a masked image does: a grid of cells.

import { element, icon, segment } from "/static/element.js";
import { load, setShownSize } from "/static/compare.js";

const SHARPNESS_PX = 1120; // the longer side of the canvas, whatever the image's
const LEAST_CELL_PX = 22;
const BRUSH = { least: 8, usual: 48, most: 160 }; // pixels of the screen

export class Brush {
  /** `onLeave()`: the person wants another image. */
  constructor(root, onLeave) {
    this.root = root;
    this.image = element("img", { alt: "The image to edit" });
    this.canvas = element("canvas", { className: "mask", "aria-hidden": "true" });
    this.ring = element("span", { className: "ring", hidden: true });
    this.sheet = element("div", { className: "sheet" }, this.image, this.canvas, this.ring);
    this.strokes = [];
    this.root.append(this.sheet, this.tools(onLeave));
    this.listen();
  }

  tools(onLeave) {
    const brush = segment("brush", "brush", "Brush", true);
    const eraser = segment("brush", "eraser", "Eraser", false);
    brush.querySelector("span").prepend(icon("brush"));
    eraser.querySelector("span").prepend(icon("eraser"));
    this.eraser = eraser.querySelector("input");
    const { least: min, most: max, usual: value } = BRUSH;
    this.size = element("input", { type: "range", min, max, value, "aria-label": "Size of the brush" });
    this.size.addEventListener("input", () => this.showRing());
    const undo = tool("Undo", () => this.undo());
    undo.prepend(icon("undo"));
    const kinds = element("div", { className: "segments inline", role: "radiogroup", "aria-label": "Tool" }, element("div", {}, brush, eraser));
    return element("div", { className: "tools" }, kinds, this.size, undo, tool("Clear", () => this.clear()), tool("Another image", onLeave));
  }

  /** Begin with an image; `cell`: its pixels along the side of a code. Resolves when it is shown. */
  async open(url, cell) {
    await load(this.image, url);
    [this.width, this.height] = [this.image.naturalWidth, this.image.naturalHeight];
    const sharpness = SHARPNESS_PX / Math.max(this.width, this.height);
    Object.assign(this.canvas, { width: Math.round(this.width * sharpness), height: Math.round(this.height * sharpness) });
    this.context = this.canvas.getContext("2d");
    this.context.scale(sharpness, sharpness);
    this.cells = cellsOf(this.context, Math.max(cell / 4, LEAST_CELL_PX / sharpness), sharpness);
    setShownSize(this.sheet, this.width, this.height);
    this.clear();
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  // -- strokes ----------------------------------------------------------------------------------

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.stroke = null));
    canvas.addEventListener("pointerleave", () => (this.ring.hidden = true));
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const width = Number(this.size.value) / this.scale;
    this.stroke = { width, erases: this.eraser.checked, points: [this.pointOf(event)] };
    this.strokes.push(this.stroke);
    draw(this.context, this.stroke, this.cells);
  }

  move(event) {
    this.showRing(event);
    if (!this.stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.stroke.points.push(...(events.length ? events : [event]).map((one) => this.pointOf(one)));
    draw(this.context, this.stroke, this.cells);
  }

  /** A box in pixels of the image. */
  addBox(box) {
    this.strokes.push({ box });
    this.redraw();
  }

  undo() {
    this.strokes.pop();
    this.redraw();
  }

  clear() {
    this.strokes.length = 0;
    this.redraw();
  }

  redraw() {
    this.context.clearRect(0, 0, this.width, this.height);
    for (const stroke of this.strokes) draw(this.context, stroke, this.cells);
  }

  // -- geometry ---------------------------------------------------------------------------------

  /** Screen pixels for one of the image's. */
  get scale() {
    return this.canvas.clientWidth / this.width;
  }

  pointOf({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [(clientX - left) / this.scale, (clientY - top) / this.scale];
  }

  showRing(event) {
    const { style } = this.ring;
    style.setProperty("--size", `${this.size.value}px`);
    if (!event || event.pointerType === "touch") return;
    const { left, top } = this.canvas.getBoundingClientRect();
    style.setProperty("--x", `${event.clientX - left}px`);
    style.setProperty("--y", `${event.clientY - top}px`);
    this.ring.hidden = false;
  }

  // -- what is sent -----------------------------------------------------------------------------

  /** The mask as a PNG of the image's size: transparent where it is to be made anew. */
  async mask() {
    const [painted, sheet] = [0, 1].map(() => element("canvas", { width: this.width, height: this.height }));
    for (const stroke of this.strokes) draw(painted.getContext("2d"), stroke, "black");
    const context = sheet.getContext("2d");
    context.fillRect(0, 0, this.width, this.height);
    context.globalCompositeOperation = "destination-out";
    context.drawImage(painted, 0, 0);
    const blob = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
    return new File([blob], "mask.png", { type: "image/png" });
  }
}

function draw(context, { box, points, width, erases }, style) {
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.fillStyle = context.strokeStyle = style;
  if (box) {
    const [left, top, right, bottom] = box;
    context.fillRect(left, top, right - left, bottom - top);
    return;
  }
  Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
  context.beginPath();
  if (points.length === 1) context.arc(...points[0], width / 2, 0, 2 * Math.PI);
  for (const point of points) context.lineTo(...point);
  if (points.length === 1) context.fill(); // a line without length is not drawn
  else context.stroke();
}

/** A pattern of cells, `side` of the image's pixels each, for a canvas that has `sharpness` pixels for one of them. */
function cellsOf(context, side, sharpness) {
  const pixels = Math.round(side * sharpness);
  const tile = element("canvas", { width: pixels, height: pixels });
  const on = tile.getContext("2d");
  on.fillStyle = "#17171a";
  on.fillRect(0, 0, pixels, pixels);
  on.fillStyle = "#ffb60a";
  on.beginPath();
  on.roundRect(0.14 * pixels, 0.14 * pixels, 0.72 * pixels, 0.72 * pixels, 0.18 * pixels);
  on.fill();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(side / pixels));
  return pattern;
}

function tool(text, onClick) {
  const button = element("button", { type: "button", className: "secondary" }, text);
  button.addEventListener("click", onClick);
  return button;
}
