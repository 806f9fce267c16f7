// The service's HTTP interface, as the page uses it.

import { askForKey } from "/static/key.js";

/** An error whose message is a sentence for the person at the page; `fields` are the wrong ones: {name: sentence}. */
export class Problem extends Error {
  constructor(message, status = 0, fields = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

/** JSON of an answer; asks for an API key where one is wanted; throws a Problem with the service's own sentence. */
export async function call(path, options) {
  const answer = await reach(path, options);
  if (answer.status === 401) {
    await askForKey();
    return call(path, options);
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw problemOf(answer, body);
  return body;
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Problem("The service cannot be reached.");
  }
}

function problemOf(answer, body) {
  const retry = answer.headers.get("retry-after");
  const again = answer.status === 429 && retry ? ` Try again in ${retry} s.` : "";
  const fields = {};
  for (const { pointer, detail } of body.errors ?? []) fields[pointer.split("/").pop()] = detail;
  return new Problem((body.detail ?? `The service answered ${answer.status}.`) + again, answer.status, fields);
}

/** An image of this service as a file, to be sent again. */
export async function download(url, name) {
  const answer = await reach(url);
  if (!answer.ok) throw new Problem("This image is no longer stored.", answer.status);
  const blob = await answer.blob();
  return new File([blob], name, { type: blob.type });
}

/** `fetch`'s options of a POST with a JSON body. */
export const json = (body) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

/** `fetch`'s options of a POST with form fields; a list is a field repeated. */
export function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) body.append(name, one);
  }
  return { method: "POST", body };
}
