// The caller's own usage, limits, batches and files.

import { Refusal, json, limits, request } from "./api.js";
import { byId, count, element, meter, moment, progress, save, table, tell } from "./dom.js";

const SHOWN = 20;
const note = (text) => element("p", { class: "note" }, text);
const day = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 10);

/** Read everything again; parts that the service does not keep say so. */
export async function showAccount() {
  tell(byId("account-problem"), "");
  const parts = [
    ["usage", "v1/usage?by=day&limit=10000", usage, "The service keeps no usage: its settings usage.path and usage.storage are not set."],
    ["batches", `v1/batches?limit=${SHOWN}`, batches, "The service takes no batches: its setting batches.path is not set."],
    ["files", `v1/files?limit=${SHOWN}`, files, "The service keeps no files: its setting batches.path is not set."],
  ];
  await Promise.all(parts.map(([id, path, draw, absent]) => part(byId(id), path, draw, absent)));
  showLimits();
}

async function part(box, path, draw, absent) {
  try {
    box.replaceChildren(...draw(await json(path)));
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) box.replaceChildren(note(absent));
    else tell(byId("account-problem"), error.message);
  }
}

function showLimits() {
  const kinds = ["requests", "tokens"].filter((kind) => `limit-${kind}` in limits);
  const rows = kinds.map((kind) => {
    const [most, left] = [Number(limits[`limit-${kind}`]), Number(limits[`remaining-${kind}`])];
    return [kind, meter(left / most), `${count(left)} of ${count(most)} left`, limits[`reset-${kind}`]];
  });
  byId("limits").replaceChildren(rows.length ? table("Limits", ["what", "", "left", "resets after"], rows)
    : note("This caller has no quota."));
}

function usage({ data, has_more: more }) {
  if (!data.length) return [note("No requests yet.")];
  const total = sums(data, (row) => day(row.start));
  const most = Math.max(...[...total.values()].map((row) => row.tokens));
  const days = [...total].reverse().map(([name, row]) => [name, meter(row.tokens / most), ...figures(row)]);
  const models = [...sums(data, (row) => row.adapter ?? row.model)].map(([name, row]) => [name || "none", ...figures(row)]);
  const heads = ["tokens", "requests", "refused"];
  return [
    table("Usage by day", ["day (UTC)", "", ...heads], days), table("Usage by model", ["model or adapter", ...heads], models),
    ...(more ? [note("There is more; GET /v1/usage has all of it.")] : []),
  ];
}

const figures = (row) => [row.tokens, row.requests, row.refused].map(count);

/** Rows added up by a key. */
function sums(data, keyOf) {
  const found = new Map();
  for (const row of data) {
    const sum = found.get(keyOf(row)) ?? { tokens: 0, requests: 0, refused: 0 };
    sum.tokens += row.prompt_tokens + row.completion_tokens;
    sum.requests += row.requests;
    sum.refused += row.refused;
    found.set(keyOf(row), sum);
  }
  return found;
}

function batches({ data, has_more: more }) {
  if (!data.length) return [note("No batches.")];
  const rows = data.map((batch) =>
    [element("code", {}, batch.id), batch.status, ...progress(batch.request_counts), batch.endpoint, moment(batch.created_at)]);
  return [table("Batches", ["batch", "status", "", "lines", "endpoint", "made"], rows), ...(more ? [note(`The newest ${SHOWN}.`)] : [])];
}

function files({ data, has_more: more }) {
  if (!data.length) return [note("No files.")];
  const rows = data.map((file) => [file.filename, file.purpose, `${count(Math.ceil(file.bytes / 1024))} KiB`, moment(file.created_at), download(file)]);
  return [table("Files", ["file", "purpose", "size", "made", ""], rows), ...(more ? [note(`The newest ${SHOWN}.`)] : [])];
}

/** A link could not carry the key. */
function download(file) {
  const button = element("button", { type: "button", "aria-label": `Download ${file.filename}` }, "Download");
  button.addEventListener("click", async () => {
    try {
      save(file.filename, await (await request(`v1/files/${encodeURIComponent(file.id)}/content`)).blob());
    } catch (error) {
      tell(byId("account-problem"), error.message);
    }
  });
  return button;
}

byId("refresh").addEventListener("click", showAccount);
