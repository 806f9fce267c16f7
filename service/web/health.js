// Health: whether the service answers, and whether a worker listens.

const LOOK_MS = 5000;
const dot = document.getElementById("health");
const text = document.getElementById("health-text");

async function look() {
  try {
    const answer = await fetch("/readyz");
    const body = await answer.json();
    if (answer.ok) show("ready", body.workers === 1 ? "Ready" : `Ready, ${body.workers} workers`);
    else show("away", body.detail);
  } catch (reason) {
    if (!(reason instanceof TypeError || reason instanceof SyntaxError)) throw reason; // no answer, or no JSON
    show("down", "The service cannot be reached");
  }
}

function show(state, said) {
  dot.dataset.state = state;
  if (text.textContent !== said) text.textContent = said; // a screen reader hears changes only
}

export async function watchHealth() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
