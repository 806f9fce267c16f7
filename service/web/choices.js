// The choices beside the class: each a field with a short explanation, and a place for what is wrong with it.

import { element, segment } from "/static/element.js";

const FIELDS = {
  steps: { label: "Steps", hint: "Passes over the codes. With more of them fewer settle at once.", min: 1, max: 64, step: 1 },
  seed: { label: "Seed", hint: "The same seed and choices give the same image.", text: "a new one each time" },
  guidance_scale: { label: "Guidance", hint: "How closely it keeps to the class. 1 is off.", min: 0, max: 10, step: 0.25 },
  guidance_schedule: {
    label: "Guidance grows",
    hint: "Not at all, or from the first step to the last.",
    options: { constant: "not at all", linear: "evenly", cosine: "late" },
  },
  temperature: { label: "Temperature", hint: "Below 1 it plays safe, above 1 it dares.", min: 0.1, max: 2, step: 0.05 },
  choice_temperature: { label: "Choice temperature", hint: "Chance in which codes settle first.", min: 0, max: 20, step: 0.25 },
  order: {
    label: "Order",
    hint: "Which codes settle first.",
    options: { confidence: "the surest", halton: "spread evenly" },
  },
  mask_schedule: {
    label: "Pace",
    hint: "How many settle early.",
    options: { cosine: "few, then many", arccos: "many, then few", linear: "as many each step" },
  },
  top_k: { label: "Top k", hint: "Draw only among the k likeliest codes.", text: "all codes" },
  strength: {
    label: "Strength",
    hint: "Share of the painted codes that is made anew. Below 100 % nothing need be painted.",
    min: 0.05,
    max: 1,
    step: 0.05,
    percent: true,
  },
  expand: { label: "Expand", hint: "Pixels to add around the image, on every side.", min: 0, max: 256, step: 8 },
  feather_px: { label: "Feather", hint: "Pixels over which the edge is blended.", min: 0, max: 32, step: 1 },
};
const OWN = { strength: 1, feather_px: 4, expand: 0 }; // the model has nothing to say about these

export class Choices {
  /** `names`: of the fields that `root` gets. */
  constructor(root, names) {
    this.prefix = root.closest("section").id;
    this.fields = {};
    for (const name of names) root.append(this.field(name));
  }

  /** The fields of two places in one. */
  static join(...several) {
    const [first] = several;
    Object.assign(first.fields, ...several.map(({ fields }) => fields));
    return first;
  }

  field(name) {
    const spec = FIELDS[name];
    const id = `${this.prefix}-${name}`;
    const input = inputOf(spec, { id, name, "aria-describedby": `${id}-hint ${id}-problem` });
    const shown = spec.min === undefined ? null : element("output", { htmlFor: id });
    const problem = element("p", { className: "problem", id: `${id}-problem`, hidden: true });
    input.addEventListener("input", () => this.show(name));
    this.fields[name] = { input, shown, problem, spec };
    const label = element("label", { htmlFor: id, textContent: spec.label });
    const hint = element("p", { className: "hint", id: `${id}-hint`, textContent: spec.hint });
    return element("div", { className: "field" }, label, shown, input, hint, problem);
  }

  /** Begin with what suits the model. */
  useModel(model) {
    this.usual = { ...model.sampling, ...OWN };
    if (this.fields.steps) this.fields.steps.input.max = model.limits.steps;
    this.set({ ...this.usual, seed: null });
  }

  /** Set those that are there; null empties. */
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      if (!this.fields[name]) continue;
      this.fields[name].input.value = value ?? "";
      this.show(name);
    }
  }

  show(name) {
    const { input, shown, spec } = this.fields[name];
    if (shown) shown.textContent = spec.percent ? `${Math.round(100 * input.value)} %` : input.value;
  }

  /** What differs from what the service would choose itself. */
  values() {
    const chosen = {};
    for (const [name, { input }] of Object.entries(this.fields)) {
      const value = valueOf(input);
      if (value !== "" && (value !== this.usual[name] || name === "seed" || name in OWN)) chosen[name] = value;
    }
    return chosen;
  }

  clearProblems() {
    for (const { input, problem } of Object.values(this.fields)) {
      input.removeAttribute("aria-invalid");
      problem.hidden = true;
    }
  }

  /** Say what is wrong next to each field; false when none of them is here. */
  showProblems(problems) {
    const here = Object.entries(problems).filter(([name]) => this.fields[name]);
    for (const [name, sentence] of here) {
      const { input, problem } = this.fields[name];
      input.setAttribute("aria-invalid", "true");
      problem.textContent = sentence;
      problem.hidden = false;
      input.closest("details")?.setAttribute("open", "");
    }
    if (here.length > 0) this.fields[here[0][0]].input.focus();
    return here.length > 0;
  }
}

function inputOf(spec, properties) {
  if (spec.options) {
    const options = Object.entries(spec.options).map(([value, text]) => element("option", { value, textContent: text }));
    return element("select", properties, ...options);
  }
  if (spec.text) return element("input", { type: "text", inputMode: "numeric", autocomplete: "off", placeholder: spec.text, ...properties });
  const { min, max, step } = spec;
  return element("input", { type: "range", min, max, step, ...properties });
}

/** A number where one was meant; what is none is left for the service to refuse. */
function valueOf(input) {
  const text = input.value.trim();
  return input.tagName === "SELECT" || text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

/** How many: a bar of 1 to `most`. */
export class Count {
  constructor(root) {
    this.root = root;
    this.name = `count-${root.closest("section").id}`;
  }

  offer(most, chosen) {
    const numbers = Array.from({ length: most }, (_, index) => index + 1);
    this.root.replaceChildren(...numbers.map((number) => segment(this.name, number, number, number === chosen)));
  }

  get value() {
    return Number(this.root.querySelector(":checked").value);
  }

  set value(count) {
    const input = this.root.querySelector(`[value="${count}"]`);
    if (input) input.checked = true;
  }
}
