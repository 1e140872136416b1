// The live view: the service's own series, read every interval while the page is seen.

import { json } from "./api.js";
import { chart } from "./chart.js";
import { byId, count, element, meter, percent, table, tell } from "./dom.js";
import "./theme.js";

const PLACES = 120;
const SPAN = "10 minutes";
const RETRY_SECONDS = 5;
let paused = false;

const short = (value) => (value >= 100 ? count(Math.round(value)) : String(Math.round(10 * value) / 10));
const time = (seconds) => (seconds >= 1 ? `${seconds.toFixed(2)} s` : `${short(1000 * seconds)} ms`);
const inSeconds = (milliseconds) => (milliseconds === null ? null : milliseconds / 1000);

function charts({ points, objectives }) {
  const draw = (title, lines, show, more) =>
    chart(title, Object.entries(lines).map(([name, column]) => [name, points[column]]), { show, places: PLACES, span: SPAN, ...more });
  const found = [
    draw("Tokens a second", { written: "completion_tokens", read: "prompt_tokens" }, short),
    draw("Requests", { running: "in_flight", waiting: "queued", "flex waiting": "flex_queued" }, short),
    draw("Time to the first token", { median: "ttft_p50", "95 %": "ttft_p95" }, time, { objective: inSeconds(objectives.ttft_ms) }),
    draw("Time per output token", { median: "tpot_p50", "95 %": "tpot_p95" }, time, { objective: inSeconds(objectives.tpot_ms) }),
    draw("Refusals a second", { refused: "refused" }, short),
  ];
  if (points.kv_cache.some((value) => value !== null)) {
    found.push(draw("KV cache in use", { used: "kv_cache" }, percent, { most: 1 }));
  }
  byId("charts").replaceChildren(...found);
}

/** Put a table into a place, or a sentence if it would be empty. */
function put(id, heads, rows, absent) {
  const box = byId(id);
  const scrolled = box.querySelector(".scroll")?.scrollLeft ?? 0;
  box.replaceChildren(rows.length ? table(byId(`${id}-title`).textContent, heads, rows) : element("p", { class: "note" }, absent));
  if (scrolled) box.querySelector(".scroll").scrollLeft = scrolled;
}

function tables({ tenants, refusals, adapters, engines }) {
  const all = tenants.reduce((sum, row) => sum + row.tokens, 0);
  const flex = tenants.some((row) => row.flex_queued);
  put("tenants", ["tenant", "last minute", "", "by weight", "tokens/s", "waiting", ...(flex ? ["flex"] : [])], tenants.map((row) => {
    const share = all ? row.tokens / all : 0;
    const columns = [row.tenant, meter(share), percent(share), percent(row.due), short(row.tokens), count(row.queued)];
    return flex ? [...columns, count(row.flex_queued)] : columns;
  }), "No requests yet.");
  put("refusals", ["reason", "last minute", "since the start"],
    refusals.map((row) => [row.reason, count(row.last_minute), count(row.total)]), "None.");
  put("adapters", ["adapter", "version", "state", "weights", "hits", "misses"], adapters.map((row) =>
    [row.adapter, row.version ?? "", row.state ?? "", row.resident ? "in memory" : "evicted", count(row.hits), count(row.misses)]), "No adapters.");
  put("engines", ["engine", "running", "at most"],
    engines.map((row) => [row.engine, count(row.in_flight), count(row.limit ?? 0)]), "No engine runs yet.");
}

async function look() {
  let wait = RETRY_SECONDS;
  try {
    const found = await json("console/live");
    wait = found.interval_s;
    if (!paused) {
      charts(found);
      tables(found);
    }
    state(found.status);
    tell(byId("problem"), "");
  } catch (error) {
    state("unreachable");
    tell(byId("problem"), error.message);
  }
  setTimeout(next, 1000 * wait);
}

/** Look again, once the page is seen. */
function next() {
  if (document.hidden) document.addEventListener("visibilitychange", next, { once: true });
  else look();
}

function state(text) {
  const pill = byId("status");
  if (pill.textContent !== text) pill.textContent = text;
  pill.dataset.state = text;
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.textContent = paused ? "Go on" : "Pause";
  event.target.setAttribute("aria-pressed", String(paused));
});
next();
