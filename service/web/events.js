// A job's events, as the service sends them (SSE).

import { Problem, call } from "/static/api.js";

const TYPES = ["queued", "started", "step", "preview", "done"];
const AGAIN_MS = 2000;

/**
 * Follow `job` to its end; resolves with its last document.
 *
 * `onEvent(type, data)` is told each event once, however often the connection broke, and `lost` when it does. Nobody looks
 * at a hidden tab: there the stream is closed, and the service need not decode previews for it.
 */
export function follow(job, onEvent) {
  return new Promise((resolve, reject) => {
    let source = null;
    let latest = "0-0";
    let timer = 0;

    function take({ type, data, lastEventId }) {
      const isNews = isLater(lastEventId, latest);
      if (isNews) latest = lastEventId;
      if (type === "done") end(resolve, JSON.parse(data));
      else if (isNews) onEvent(type, JSON.parse(data)); // opened anew, a stream begins at its beginning
    }

    function open() {
      source = new EventSource(job.links.events);
      for (const type of TYPES) source.addEventListener(type, take);
      source.addEventListener("error", () => {
        onEvent("lost", {});
        if (source?.readyState === EventSource.CLOSED) timer = setTimeout(look, AGAIN_MS); // the browser gave up
      });
    }

    function close() {
      clearTimeout(timer);
      source?.close();
      source = null;
    }

    async function look() {
      try {
        const seen = await call(job.links.self);
        if (isOver(seen)) end(resolve, seen);
        else resume();
      } catch (reason) {
        if (reason instanceof Problem && (reason.status === 0 || reason.status >= 500)) timer = setTimeout(look, AGAIN_MS);
        else end(reject, reason);
      }
    }

    function resume() {
      close();
      if (!document.hidden) open();
    }

    function end(settle, value) {
      document.removeEventListener("visibilitychange", resume);
      close();
      settle(value);
    }

    document.addEventListener("visibilitychange", resume);
    resume();
  });
}

export const isOver = (job) => job.status !== "queued" && job.status !== "running";

/** Ids are Redis streams': milliseconds, a dash, a number. */
function isLater(id, other) {
  const [time, number] = id.split("-").map(Number);
  const [otherTime, otherNumber] = other.split("-").map(Number);
  return time > otherTime || (time === otherTime && number > otherNumber);
}
