// The live view: the service's own events, followed while the page is seen.

import { Refusal, events, request } from "./api.js";
import { byId, tell } from "./dom.js";
import { draw } from "./panels.js";
import "./theme.js";

const RETRY_SECONDS = 5;
const SILENT_SECONDS = 20;
const HIDDEN = new Error("The page is hidden.");
let paused = false;
let latest = null;
let stream = new AbortController();
let again = 0;

function show(found) {
  latest = found;
  if (!paused) draw(found);
  state(found.status);
  const details = (found.details ?? []).join("; ");
  if (byId("details").textContent !== details) byId("details").textContent = details;
  tell(byId("problem"), "");
}

/** Follow one stream until it ends, fails or is silent, then another one a little later. */
async function follow() {
  const own = new AbortController();
  stream = own;
  clearTimeout(again);
  let silence = 0;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => own.abort(new Error("silent")), 1000 * SILENT_SECONDS);
  };
  try {
    heard();
    for await (const found of events(await request("console/live", { accept: "text/event-stream", signal: own.signal }))) {
      heard();
      show(found);
    }
    lost("The service has stopped.");
  } catch (error) {
    if (own.signal.reason === HIDDEN) return;
    lost(error instanceof Refusal ? error.message : "The service cannot be reached.");
  } finally {
    clearTimeout(silence);
  }
  again = setTimeout(follow, 1000 * RETRY_SECONDS);
}

function lost(message) {
  state("unreachable");
  tell(byId("problem"), message);
}

function state(text) {
  const pill = byId("status");
  if (pill.textContent !== text) pill.textContent = text;
  pill.dataset.state = text;
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  if (!paused && latest) draw(latest);
  event.target.textContent = paused ? "Go on" : "Pause";
  event.target.setAttribute("aria-pressed", String(paused));
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(again);
  stream.abort(HIDDEN);
  if (!document.hidden) follow();
});
if (!document.hidden) follow();
