// The class picker: pictures to choose from, and a search where there are many.

import { element } from "/static/element.js";

const MOST_SHOWN = 60;
const FEW = 8; // so many need no search

export class ClassPicker {
  constructor(root) {
    this.name = `class-${root.closest("section").id}`;
    this.search = element("input", { type: "search", placeholder: "Search", autocomplete: "off", "aria-label": "Search the classes" });
    this.grid = element("div", { className: "tiles" });
    this.rest = element("p", { className: "hint", role: "status" });
    const legend = element("legend", { textContent: "Class" });
    this.root = element("fieldset", { className: "picker" }, legend, this.search, this.grid, this.rest);
    this.search.addEventListener("input", () => this.list());
    this.search.addEventListener("keydown", (event) => this.onKey(event));
    this.grid.addEventListener("change", ({ target }) => (this.chosen = target.value));
    root.append(this.root);
  }

  /** Offer a model's classes, and one that gives something to see. */
  useClasses(classes) {
    this.classes = [...classes.map((one) => ({ ...one, id: String(one.id) })), { id: "", name: "anything", example: null }];
    this.chosen = this.classes[0].id;
    this.root.hidden = classes.length === 0;
    this.search.hidden = classes.length <= FEW;
    this.search.value = "";
    this.list();
  }

  /** The class's id; null is any. */
  get value() {
    return this.chosen === "" ? null : Number(this.chosen);
  }

  set value(id) {
    this.chosen = id === null || id === undefined ? "" : String(id);
    this.search.value = "";
    this.list();
  }

  list() {
    const wanted = this.search.value.trim().toLowerCase();
    const found = this.classes.filter(({ id, name }) => name.toLowerCase().includes(wanted) || id === wanted);
    const shown = found.slice(0, MOST_SHOWN);
    this.keepChosen(shown);
    this.grid.replaceChildren(...shown.map((one) => this.tile(one)));
    const more = found.length - MOST_SHOWN;
    this.rest.textContent = found.length === 0 ? "No class of this name." : more > 0 ? `And ${more} more: search for them.` : "";
  }

  /** What is chosen is seen, unless something else is searched for. */
  keepChosen(shown) {
    if (this.search.value || shown.some(({ id }) => id === this.chosen)) return;
    const chosen = this.classes.find(({ id }) => id === this.chosen);
    if (chosen) shown.unshift(chosen);
    else this.chosen = ""; // a class of another model
  }

  tile({ id, name, example }) {
    const input = element("input", { type: "radio", name: this.name, value: id, checked: id === this.chosen });
    const picture = example
      ? element("img", { src: example, alt: "", loading: "lazy", width: 64, height: 64 })
      : element("span", { className: "cells" });
    return element("label", { title: name }, input, element("span", { className: "tile" }, picture, element("span", { textContent: name })));
  }

  /** Enter takes the first that was found, instead of sending the form. */
  onKey(event) {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const first = this.grid.querySelector("input");
    if (!first) return;
    first.checked = true;
    this.chosen = first.value;
    first.focus();
  }
}
