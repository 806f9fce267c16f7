// Pieces that both halves of the page have: the error, the note, the cancel button, the command.

import { Problem, cancel } from "/static/api.js";

const byId = (id) => document.getElementById(id);

/** The parts whose ids begin with `name`. */
export function partsOf(name) {
  const error = byId(`${name}-error`);
  const note = byId(`${name}-note`);
  const stop = byId(`${name}-cancel`);
  const command = byId(`${name}-command`);
  let current = null;

  stop.addEventListener("click", () => {
    if (current) cancel(current).catch(show);
  });
  const copy = command.querySelector("button");
  copy.addEventListener("click", () => copyText(command.querySelector("code"), copy));

  function show(reason) {
    if (!(reason instanceof Problem)) throw reason;
    error.textContent = reason.message;
    error.hidden = false;
  }

  return {
    show,
    clear() {
      error.hidden = true;
      note.textContent = "";
    },
    say(text) {
      note.textContent = text;
    },
    /** The job that Cancel would cancel; null when there is none. */
    follow(job) {
      current = job;
      stop.hidden = job === null;
    },
    curl(lines) {
      command.querySelector("code").textContent = lines.join(" \\\n  ");
      command.hidden = false;
    },
  };
}

async function copyText(source, button) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // no permission: selected, so that Ctrl-C does it
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1600);
}
