// History: the last results, kept by this browser alone.

import { element } from "/static/element.js";

const KEY = "movq.history";
const MOST = 40;
const KEPT = ["kind", "model", "request", "images", "seeds", "width", "height", "fidelity", "timings", "links"];

export class History {
  /** `onOpen(job)` shows one again. */
  constructor(root, onOpen) {
    [this.empty, this.list, this.clear] = ["p", "ol", "button"].map((part) => root.querySelector(part));
    this.onOpen = onOpen;
    this.clear.addEventListener("click", () => this.keep([]));
    addEventListener("storage", ({ key }) => key === KEY && this.show()); // another tab of ours
    this.show();
  }

  add(job) {
    const entry = Object.fromEntries(KEPT.map((name) => [name, job[name] ?? null]));
    this.keep([{ ...entry, at: Date.now() }, ...read()].slice(0, MOST));
  }

  keep(entries) {
    try {
      localStorage.setItem(KEY, JSON.stringify(entries));
    } catch {
      return; // storage is full or forbidden: the page works without a history
    }
    this.show();
  }

  show() {
    const entries = read();
    this.empty.hidden = entries.length > 0;
    this.list.hidden = this.clear.hidden = entries.length === 0;
    this.list.replaceChildren(...entries.map((entry) => this.itemOf(entry)));
  }

  itemOf(entry) {
    const image = element("img", { src: entry.images[0], alt: "", loading: "lazy" });
    const button = element("button", { type: "button", title: titleOf(entry), "aria-label": `Show again: ${titleOf(entry)}` }, image);
    if (entry.images.length > 1) button.append(element("span", { className: "badge", textContent: entry.images.length }));
    button.addEventListener("click", () => this.onOpen(entry));
    image.addEventListener("error", () => this.keep(read().filter(({ at }) => at !== entry.at))); // no longer stored
    return element("li", {}, button);
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return []; // forbidden, or not ours
  }
}

function titleOf({ kind, request, at }) {
  const what = { generate: "generated", edit: "edited", reconstruct: "reconstructed" }[kind];
  const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return [request.class_name, what, time].filter(Boolean).join(", ");
}
