// A job from the page's side: started, followed to its end, cancelled, and what can truly be said about it.

import { Problem, call } from "/static/api.js";
import { follow } from "/static/events.js";

/** Start a job that somebody looks at; `onStart(job)` once it is accepted. Resolves with its last document. */
export async function run(path, options, onStart, onEvent) {
  const job = await call(`${path}${path.includes("?") ? "&" : "?"}watched=true`, options);
  onStart(job);
  const last = await follow(job, onEvent);
  if (last.status === "failed") throw new Problem(`The job failed: ${last.error}`);
  return last;
}

export const cancel = (job) => call(job.links.self, { method: "DELETE" });

/** Where in the queue, and for how long. */
export function waiting({ position, estimated_wait_s: wait }) {
  const place = position ? (position === 1 ? "Next in the queue" : `Number ${position} in the queue`) : "Waiting";
  return wait ? `${place}, about ${wait < 1 ? "1" : Math.round(wait)} s` : place;
}

export const seconds = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} s`;
export const percent = (share) => `${Math.round(100 * share)} %`;
