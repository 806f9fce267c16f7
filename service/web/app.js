// The page: finds the model, sets up its two halves, and keeps an eye on the workers.

import { Problem, call } from "/static/api.js";
import * as generate from "/static/generate.js";
import * as reconstruct from "/static/reconstruct.js";
import { partsOf } from "/static/parts.js";

const HEALTH_MS = 5000;
const health = document.getElementById("health");
const healthText = document.getElementById("health-text");

async function lookAtHealth() {
  let state = "down";
  let text = "The service cannot be reached";
  try {
    const answer = await fetch("/readyz");
    const body = await answer.json();
    state = answer.ok ? "ready" : "away";
    text = answer.ok ? workersText(body.workers) : body.detail;
  } catch (reason) {
    if (!(reason instanceof TypeError || reason instanceof SyntaxError)) throw reason; // no answer, or no JSON
  }
  health.dataset.state = state;
  if (healthText.textContent !== text) healthText.textContent = text;
}

const workersText = (count) => (count === 1 ? "Ready, 1 worker" : `Ready, ${count} workers`);

async function keepLooking() {
  for (;;) {
    await lookAtHealth();
    await new Promise((resolve) => setTimeout(resolve, HEALTH_MS));
  }
}

async function start() {
  const { models } = await call("/v1/models");
  const [model] = models;
  document.getElementById("model").textContent = model.name;
  reconstruct.setUp(model);
  if (model.tasks.includes("generate")) await generate.setUp(model, reconstruct.reconstructUrl);
  else document.getElementById("generate").hidden = true; // a tokenizer without a prior
  document.body.dataset.ready = "";
}

keepLooking();
start().catch((reason) => {
  if (!(reason instanceof Problem)) throw reason;
  partsOf("generate").show(reason);
});
