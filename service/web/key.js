// The API key: asked for when the service wants one, and given away at once for a cookie that no script can read.

const dialog = document.getElementById("key");
const [form, input, error] = ["form", "[type=password]", ".error"].map((part) => dialog.querySelector(part));
let asking = null; // several calls may want the key at once: they share one dialog

/** Resolves once the service has taken a key. */
export function askForKey() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

function ask() {
  dialog.showModal();
  return new Promise((resolve) => {
    const submit = async (event) => {
      event.preventDefault();
      const key = input.value;
      input.value = ""; // it is kept nowhere, whatever the service says
      const refusal = await offer(key);
      error.textContent = refusal;
      error.hidden = refusal === "";
      if (refusal) return;
      form.removeEventListener("submit", submit);
      dialog.close();
      resolve();
    };
    form.addEventListener("submit", submit);
    dialog.oncancel = (event) => event.preventDefault(); // without a key there is nothing to go back to
  });
}

/** Why the service refuses the key; empty when it took it. */
async function offer(key) {
  try {
    const headers = { "content-type": "application/json" };
    const answer = await fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ key }) });
    if (answer.ok) return "";
    const body = await answer.json().catch(() => ({}));
    return body.detail ?? `The service answered ${answer.status}.`;
  } catch {
    return "The service cannot be reached.";
  }
}
