// The panels of the live view: charts of ten minutes, and tables of the present.

import { chart } from "./chart.js";
import { byId, count, element, meter, moment, percent, progress, table } from "./dom.js";

const PLACES = 120;
const SPAN = "10 minutes";
const NOT_READ = "Cannot be read now.";

const short = (value) => (Math.abs(value) >= 100 ? count(Math.round(value)) : String(Math.round(10 * value) / 10));
const time = (seconds) => (seconds >= 1 ? `${seconds.toFixed(2)} s` : `${short(1000 * seconds)} ms`);
const inSeconds = (milliseconds) => (milliseconds === null ? null : milliseconds / 1000);
const note = (text) => element("p", { class: "note" }, text);

/** Draw everything anew. */
export function draw(found) {
  charts(found);
  tenants(found.tenants);
  engines(found.engines);
  adapters(found.adapters);
  put("refusals", ["reason", "last minute", "since the start"],
    found.refusals.map((row) => [row.reason, count(row.last_minute), count(row.total)]), "None.");
  releases(found.releases);
  batches(found.batches);
}

function charts({ points, objectives }) {
  const lines = (title, columns, show, more) =>
    chart(title, Object.entries(columns).map(([name, column]) => [name, points[column]]), { show, places: PLACES, span: SPAN, ...more });
  const found = [
    lines("Tokens a second", { written: "completion_tokens", read: "prompt_tokens" }, short),
    lines("Requests", { running: "in_flight", waiting: "queued", "flex waiting": "flex_queued" }, short),
    lines("Time to first token", { median: "ttft_p50", "95 %": "ttft_p95" }, time, { objective: inSeconds(objectives.ttft_ms) }),
    lines("Time per token", { median: "tpot_p50", "95 %": "tpot_p95" }, time, { objective: inSeconds(objectives.tpot_ms) }),
    lines("Steps a second", { steps: "steps" }, short),
    lines("Refusals a second", { refused: "refused" }, short),
  ];
  if (points.kv_cache.some((value) => value !== null)) {
    found.push(lines("KV cache in use", { used: "kv_cache" }, percent, { most: 1 }));
  }
  byId("charts").replaceChildren(...found);
}

/** Replace what a box holds; tables in it stay scrolled and focused as they were. */
function redraw(box, ...made) {
  const before = [...box.querySelectorAll(".scroll")].map((each) => [each.scrollLeft, each === document.activeElement]);
  box.replaceChildren(...made);
  for (const [place, each] of box.querySelectorAll(".scroll").entries()) {
    const [scrolled, focused] = before[place] ?? [0, false];
    if (scrolled) each.scrollLeft = scrolled;
    if (focused) each.focus({ preventScroll: true });
  }
}

/** Put a table into a place, or a sentence if it would be empty. */
function put(id, heads, rows, absent) {
  redraw(byId(id), rows.length ? table(byId(`${id}-title`).textContent, heads, rows) : note(absent));
}

function tenants(rows) {
  const all = rows.reduce((sum, row) => sum + row.tokens, 0);
  const flex = rows.some((row) => row.flex_queued);
  put("tenants", ["tenant", "last minute", "", "by weight", "tokens/s", "waiting", ...(flex ? ["flex"] : [])], rows.map((row) => {
    const share = all ? row.tokens / all : 0;
    const columns = [row.tenant, meter(share), percent(share), percent(row.due), short(row.tokens), count(row.queued)];
    return flex ? [...columns, count(row.flex_queued)] : columns;
  }), "No requests yet.");
}

function engines(rows) {
  put("engines", ["engine", "running", "at most", "steps/s", "last step"], rows.map((row) =>
    [row.engine, count(row.in_flight), row.limit ? count(row.limit) : "–", short(row.steps), row.in_flight ? `${short(row.step_age)} s ago` : "idle"]),
  "No engine runs yet.");
}

function adapters(rows) {
  put("adapters", ["adapter", "version", "state", "proof", "weights", "hits", "misses"], rows.map((row) =>
    [row.adapter, row.version ?? "", row.state ?? "", row.proof === null ? "none" : percent(row.proof),
      row.resident ? "in memory" : "evicted", count(row.hits), count(row.misses)]), "No adapters.");
}

function releases(plans) {
  const made = (plans ?? []).map(release);
  if (plans === undefined) made.push(note("The service keeps no releases: its setting releases.path is not set."));
  else if (!plans) made.push(note(NOT_READ));
  else if (!made.length) made.push(note("No release is planned."));
  redraw(byId("releases"), ...made);
}

function release(plan) {
  const name = (plan.state ?? "planned").replaceAll("_", " ");
  const tests = plan.tests.map((test) => [
    test.criterion, meter(test.statistic / test.bound), `${test.statistic.toFixed(2)} of ${test.bound.toFixed(2)}`, hits(test.old), hits(test.new)]);
  return element("article", { class: "card" },
    element("h3", {}, plan.adapter, " ", element("span", { class: "pill", "data-state": name }, name)),
    element("p", {}, `${plan.versions.old ?? "no version"} → ${plan.versions.new ?? "no version"}`),
    note(facts(plan).join(" · ")),
    tests.length ? table(`Tests of ${plan.adapter}`, ["test", "evidence", "", "old", "new"], tests) : note("No request was judged yet."),
    ...(plan.more ? [note(`The nearest to their bounds; ${count(plan.more)} more are at GET /releases.`)] : []));
}

/** What is known of a release, as short sentences. */
function facts({ step, steps, share, requests, golden, disputed, spared, changed }) {
  const known = [];
  if (step) known.push(`step ${step} of ${steps}`, `${percent(share)} of the requests`);
  if (step === 0) known.push("shadow");
  if (requests) known.push(`${count(requests.old)} old and ${count(requests.new)} new requests, ${count(requests.needed)} needed`);
  if (golden) known.push(golden.proven ? "golden examples proven" : "golden examples failed");
  if (disputed?.length) known.push(`disputed by ${disputed.join(", ")}: a person decides`);
  if (spared?.length) known.push(`the old version again for ${spared.join(", ")}`);
  if (changed) known.push(`by ${changed.by}, ${new Date(changed.time).toLocaleString()}`);
  return known;
}

const hits = (arm) => (arm === null ? "" : `${short(arm[0])} of ${count(arm[1])}`);

function batches(rows) {
  const absent = rows === undefined ? "The service takes no batches: its setting batches.path is not set." : rows ? "No batches." : NOT_READ;
  put("batches", ["tenant", "status", "", "lines", "endpoint", "made", "batch"], (rows ?? []).map((row) =>
    [row.tenant, row.status, ...progress(row), row.endpoint, moment(row.created_at), element("code", {}, row.id)]), absent);
}
