// The page: finds the models, sets up its three modes, and passes images between them.

import { Problem, call } from "/static/api.js";
import { Edit } from "/static/edit.js";
import { element } from "/static/element.js";
import { Generate } from "/static/generate.js";
import { lookAt, watchHealth } from "/static/health.js";
import { History } from "/static/history.js";
import { Reconstruct } from "/static/reconstruct.js";

const AGAIN_MS = 3000;
const sections = [...document.querySelectorAll(".mode")];
const links = [...document.querySelectorAll(".modes a")];
const section = (name) => sections.find(({ id }) => id === name);

const keep = (job) => history.add(job);
const modes = { edit: new Edit(section("edit"), keep), reconstruct: new Reconstruct(section("reconstruct"), keep) };
modes.generate = new Generate(section("generate"), sendsTo(), keep);
const history = new History(document.getElementById("history"), (job) => {
  turnTo(job.kind);
  guard(job.kind, showAgain(job));
});
const chooser = document.getElementById("models");
const select = chooser.querySelector("select");
let models = [];
let current = null;

/** With the model that made it, where that is still served. */
async function showAgain(job) {
  const made = models.find(({ name }) => name === job.model);
  if (made && made !== current) await useModel(made);
  await modes[job.kind].show(job);
}


/** Where a generated image may go on to. */
function sendsTo() {
  const to = (name, what) => (...image) => {
    turnTo(name);
    guard(name, modes[name][what](...image));
  };
  return { reconstruct: to("reconstruct", "take"), edit: to("edit", "take"), vary: to("edit", "vary") };
}

/** An error on the way into a mode stands in that mode. */
function guard(name, promise) {
  promise.catch((reason) => modes[name].report.fail(reason));
}

function turnTo(name) {
  if (location.hash === `#${name}`) showMode();
  else location.hash = name;
}

/** The mode that the address names; the first that the model can do, when it names none. */
function showMode() {
  const possible = links.filter((link) => !link.hidden).map((link) => link.hash.slice(1));
  const asked = location.hash.slice(1);
  const name = possible.includes(asked) ? asked : possible[0];
  for (const one of sections) one.hidden = one.id !== name;
  for (const link of links) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function useModel(model) {
  current = model;
  select.value = model.name;
  document.getElementById("model").textContent = model.name;
  lookAt(model.name);
  for (const link of links) link.hidden = !model.tasks.includes(link.hash.slice(1));
  showMode();
  const { classes } = model.num_classes > 0 ? await call(model.links.classes) : { classes: [] };
  for (const [name, mode] of Object.entries(modes)) if (model.tasks.includes(name)) mode.useModel(model, classes);
}

function offerModels() {
  if (models.length < 2) return;
  select.append(...models.map(({ name }) => element("option", { value: name, textContent: name })));
  select.addEventListener("change", () => useModel(models.find(({ name }) => name === select.value)));
  chooser.hidden = false;
  document.getElementById("model").hidden = true;
}

/** The models; asked for again until the service is there. */
async function findModels() {
  for (;;) {
    try {
      return (await call("/v1/models")).models;
    } catch (reason) {
      if (!(reason instanceof Problem)) throw reason;
      modes.generate.report.fail(reason);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

async function start() {
  models = (await findModels()).map((model, index) => ({ ...model, isDefault: index === 0 }));
  modes.generate.report.clear();
  offerModels();
  await useModel(models[0]);
  document.body.dataset.ready = "";
}

addEventListener("hashchange", showMode);
showMode();
watchHealth();
start();
