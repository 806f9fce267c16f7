// Elements of the page, made in one expression.

const SVG = "http://www.w3.org/2000/svg";

/** `<tag>` with properties (or attributes, where the element has no such property) and children; null ones are left out. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** One of the symbols at the end of index.html; decoration, so it has no name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A radio button that looks like a segment of a bar. */
export function segment(name, value, text, checked) {
  const input = element("input", { type: "radio", name, value, checked });
  return element("label", {}, input, element("span", { textContent: text }));
}
