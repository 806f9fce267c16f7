// The same from code: curl and Python for what was just done.

import { element } from "/static/element.js";

const SHOWN_MS = 1600;

export class Snippet {
  constructor() {
    this.code = element("code");
    this.text = element("pre", { className: "snippet", tabIndex: 0, hidden: true, "aria-label": "The same from code" }, this.code);
    this.buttons = element("div", { className: "as", hidden: true }, element("span", { textContent: "Copy as" }));
    for (const language of ["curl", "Python"]) {
      const button = element("button", { type: "button", className: "secondary", textContent: language });
      button.addEventListener("click", () => this.copy(language, button));
      this.buttons.append(button);
    }
  }

  /** `texts`: {curl, Python}. */
  offer(texts) {
    this.texts = texts;
    this.buttons.hidden = false;
    this.text.hidden = true;
  }

  hide() {
    this.buttons.hidden = true;
    this.text.hidden = true;
  }

  async copy(language, button) {
    this.code.textContent = this.texts[language];
    this.text.hidden = false;
    try {
      await navigator.clipboard.writeText(this.texts[language]);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.code); // no permission: selected, so that Ctrl-C does it
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = language), SHOWN_MS);
  }
}

/** curl that sends `body` as JSON to the short face, and keeps the image where it is one. */
export function curlOfJson(path, body) {
  const asImage = (body.num_images ?? 1) === 1 ? ["-H 'accept: image/png' -o out.png"] : [];
  return lines([`curl ${location.origin}${path}`, "-H 'content-type: application/json'", ...asImage, `-d ${quoted(JSON.stringify(body))}`]);
}

/** curl that sends form fields; `@name` stands for a file. */
export function curlOfForm(path, fields) {
  const parts = Object.entries(fields).map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`);
  return lines([`curl ${quoted(location.origin + path)}`, "-H 'accept: image/png' -o out.png", ...parts]);
}

/** Python with movq_client; `last` are its lines after the client is there. */
export function pythonOf(...last) {
  return ["from movq_client import Client", "", `client = Client(${JSON.stringify(location.origin)})`, ...last].join("\n");
}

/** Keyword arguments of a call, as Python writes them. */
export function keywords(fields) {
  return Object.entries(fields).map(([name, value]) => `${name}=${literal(value)}`).join(", ");
}

const literal = (value) => (value === null ? "None" : JSON.stringify(value));
const lines = (parts) => parts.join(" \\\n  ");
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
