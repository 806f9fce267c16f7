// Health: whether the service answers, and whether a worker listens.

const LOOK_MS = 5000;
const dot = document.getElementById("health");
const text = document.getElementById("health-text");
let model = null; // the one that is looked at

async function look() {
  try {
    const answer = await fetch("/readyz");
    const body = await answer.json();
    if (answer.ok) showWorkers(body.models.find(({ name }) => name === model) ?? body.models[0]);
    else show("away", body.detail);
  } catch (reason) {
    if (!(reason instanceof TypeError || reason instanceof SyntaxError)) throw reason; // no answer, or no JSON
    show("down", "The service cannot be reached");
  }
}

function showWorkers({ name, workers }) {
  if (workers === 0) show("away", `No worker is listening for ${name}; jobs wait until one comes.`);
  else show("ready", workers === 1 ? "Ready" : `Ready, ${workers} workers`);
}

function show(state, said) {
  dot.dataset.state = state;
  if (text.textContent !== said) text.textContent = said; // a screen reader hears changes only
}

/** From now on the workers of this model are looked at. */
export function lookAt(name) {
  model = name;
  look();
}

export async function watchHealth() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
