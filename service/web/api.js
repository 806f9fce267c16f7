// The service's HTTP interface, as the page uses it.

const POLL_MS = 250;

/** An error whose message is a sentence for the person at the page. */
export class Problem extends Error {}

/** JSON of an answer; throws a Problem with the service's own sentence. */
export async function call(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem("The service cannot be reached.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const retry = answer.headers.get("retry-after");
    const again = answer.status === 429 && retry ? ` Try again in ${retry} s.` : "";
    throw new Problem((body.detail ?? `The service answered ${answer.status}.`) + again);
  }
  return body;
}

/** Start a job; calls `onChange(job)` whenever it was looked at; resolves once it is over. */
export async function run(path, options, onChange) {
  let job = await call(path, { method: "POST", ...options });
  while (job.status === "queued" || job.status === "running") {
    onChange(job);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    job = await call(job.links.self);
  }
  if (job.status === "failed") throw new Problem(`The job failed: ${job.error}`);
  return job;
}

export const cancel = (job) => call(job.links.self, { method: "DELETE" });

/** What can truly be said about a job that is not over. */
export function standing(job) {
  if (job.status === "running") return "Running";
  if (job.position === null) return "Waiting for a worker";
  return job.position === 1 ? "Next in the queue" : `Number ${job.position} in the queue`;
}

export const seconds = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} s`;
