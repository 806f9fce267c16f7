// A box by its four sides: the brush for those who use no pointer.

import { element } from "/static/element.js";

const SIDES = ["left", "top", "right", "bottom"];

export class Box {
  /** `onAdd(box)`: [left, top, right, bottom] in pixels of the image. */
  constructor(root, onAdd) {
    this.inputs = SIDES.map((side) => element("input", { type: "number", min: 0, value: 0, step: 1, id: `box-${side}` }));
    const fields = SIDES.map((side, index) => element("div", {}, element("label", { htmlFor: `box-${side}`, textContent: side }), this.inputs[index]));
    this.problem = element("p", { className: "problem", role: "alert", hidden: true });
    const add = element("button", { type: "button", className: "secondary", textContent: "Add the box" });
    add.addEventListener("click", () => this.add(onAdd));
    const hint = element("p", { className: "hint", textContent: "In pixels of the image. Arrow keys change a side by one." });
    root.append(hint, element("div", { className: "sides" }, ...fields), this.problem, add);
  }

  /** Begin with the middle of an image. */
  fit(width, height) {
    this.bounds = [width, height, width, height];
    const middle = [width / 4, height / 4, (3 * width) / 4, (3 * height) / 4];
    this.inputs.forEach((input, index) => Object.assign(input, { max: this.bounds[index], value: Math.round(middle[index]) }));
  }

  add(onAdd) {
    const box = this.inputs.map((input) => Number(input.value));
    const [left, top, right, bottom] = box;
    const isWithin = (value, index) => value >= 0 && value <= this.bounds?.[index];
    const fits = box.every(isWithin) && left < right && top < bottom;
    this.problem.hidden = fits;
    if (fits) onAdd(box);
    else if (!this.bounds) this.problem.textContent = "Choose an image first.";
    else this.problem.textContent = `Left is below right, top below bottom, and all within ${this.bounds[0]} × ${this.bounds[1]}.`;
  }
}
