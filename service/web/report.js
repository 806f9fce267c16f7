// What a mode says about its work: a line, Cancel, an error where it arose, and the same from code.

import { Problem } from "/static/api.js";
import { element } from "/static/element.js";
import { cancel } from "/static/job.js";
import { Snippet } from "/static/snippet.js";

export class Report {
  /** `mode`: the section; `choices`: its fields, which can show what is wrong with them. */
  constructor(mode, choices = null) {
    this.choices = choices;
    this.error = mode.querySelector(".error");
    this.note = element("p", { className: "note" });
    this.heard = element("p", { className: "unseen", role: "status" });
    this.stop = element("button", { type: "button", className: "secondary", textContent: "Cancel", hidden: true });
    this.snippet = new Snippet();
    this.job = null;
    this.stop.addEventListener("click", () => cancel(this.job).catch((reason) => this.fail(reason)));
    const line = element("div", { className: "under" }, this.note, this.stop, this.snippet.buttons);
    mode.querySelector(".report").append(line, this.snippet.text, this.heard);
  }

  clear() {
    this.error.hidden = true;
    this.choices?.clearProblems();
    this.snippet.hide();
    this.say("");
  }

  /** For the eye: it may change many times a second. */
  say(text) {
    this.note.textContent = text;
  }

  /** For the ear as well. */
  announce(text) {
    this.say(text);
    this.heard.textContent = text;
  }

  /** The job that Cancel would cancel; null when there is none. */
  follow(job) {
    this.job = job;
    this.stop.hidden = job === null;
  }

  /** Next to the field it is about, or else above the result. */
  fail(reason) {
    if (!(reason instanceof Problem)) throw reason;
    this.say("");
    if (this.choices?.showProblems(reason.fields)) return;
    this.error.textContent = reason.message;
    this.error.hidden = false;
  }
}
