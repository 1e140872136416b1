// Classification: probabilities as bars, conformal sets, abstentions, and the results as CSV.

import { request, rows } from "./api.js";
import { csv } from "./csv.js";
import { decide, questions, shown } from "./decide.js";
import { adapterOptions, byId, element, fill, lines, meter, percent, reveal, save, tell, term } from "./dom.js";
import { suggest, textsFor } from "./examples.js";

const AT_ONCE = 64;
const DECIDED_AT_ONCE = 4;
const MOST_TEXTS = 2000;
const SHOWN_LABELS = 8;
const STEP_OF_STATUS = 10;

const owners = new Map();
let abort = null;
let done = [];

/** Offer the base, and the adapters and encoders that classify, which bring labels of their own. */
export function offerClassifiers(models, adapters) {
  owners.clear();
  for (const { name, labels, versions } of adapters.filter((each) => each.task === "classification")) {
    owners.set(name, labels ?? []);
    for (const version of versions ?? []) owners.set(`${name}@${version}`, []);
  }
  for (const card of models) if (card.task === "classify") owners.set(card.id, card.labels ?? []);
  const base = models.filter((card) => card.task === "generation" && !adapters.some(({ name }) => name === card.id));
  const encoders = models.filter((card) => card.task === "classify");
  fill(byId("classifier"), {
    Adapters: adapterOptions(adapters.filter((each) => owners.has(each.name))),
    "Model, with your labels or questions": base.map((card) => [card.id]),
    "Adapters, with your questions": adapterOptions(adapters.filter((each) => each.task === "generation")),
    Encoders: encoders.map((card) => [card.id]),
  });
  showQuestion();
}

function showQuestion() {
  const model = byId("classifier").value;
  const own = owners.get(model);
  suggest(byId("inputs"), own && textsFor(model).join("\n"));
  byId("question").hidden = own !== undefined;
  tell(byId("own-labels"), own?.length ? `Labels: ${own.join(", ")}` : "");
}

/** The request for some texts, as the form asks. */
function wanted(texts) {
  const body = { model: byId("classifier").value, input: texts };
  const threshold = byId("threshold").value;
  if (threshold) body.threshold = Number(threshold);
  if (owners.has(body.model)) return body;
  body.candidate_labels = lines(byId("labels").value);
  if (byId("multi-label").checked) body.multi_label = true;
  const instruction = byId("instruction").value.trim();
  if (instruction) body.instruction = instruction;
  return body;
}

async function run(event) {
  event.preventDefault();
  abort?.abort();
  const texts = lines(byId("inputs").value);
  tell(byId("classify-problem"), texts.length > MOST_TEXTS ? `Texts: at most ${MOST_TEXTS} here, got ${texts.length}` : "");
  if (!texts.length || texts.length > MOST_TEXTS) return;
  const own = abort = new AbortController();
  const asked = owners.has(byId("classifier").value) ? [] : questions(byId("questions").value);
  done = [];
  byId("results").replaceChildren();
  let state = "Done";
  controls(true);
  reveal(byId("classify-status"));
  try {
    if (asked.length) await decideAll(texts, asked, own.signal);
    else for (let from = 0; from < texts.length; from += AT_ONCE) await some(texts, from, own.signal);
  } catch (error) {
    state = own.signal.aborted ? "Stopped" : "Ended early";
    if (!own.signal.aborted) {
      tell(byId("classify-problem"), error.message);
      reveal(byId("classify-problem"));
    }
  }
  if (abort !== own) return;
  controls(false);
  status(`${state}: ${byId("results").children.length} of ${texts.length}.`);
}

/** Classify the texts from one place on, and show each result when it comes. */
async function some(texts, from, signal) {
  const body = wanted(texts.slice(from, from + AT_ONCE));
  const answer = await request("v1/classify", { body, signal, accept: "application/x-ndjson" });
  for await (const row of rows(answer)) {
    if (row.error && row.index === undefined) throw new Error(row.error.message);
    if (row.index === undefined) continue;
    const result = { ...row, place: from + row.index, text: texts[from + row.index] };
    done.push(result);
    show(result);
    if (done.length % STEP_OF_STATUS === 0) status(`${done.length} of ${texts.length} classified`);
  }
}

/** Ask the questions about each text, a few texts at a time. */
async function decideAll(texts, asked, signal) {
  const model = byId("classifier").value;
  const places = texts.keys();
  const worker = async () => {
    for (const place of places) {
      const answers = await decide(model, texts[place], asked, signal);
      done.push(...answers.map((answer) => ({ ...answer, score: answer.scores[0]?.score, place, text: texts[place] })));
      show({ place, text: texts[place] }, answers.flatMap((answer) => shown(answer, SHOWN_LABELS)));
      status(`${byId("results").children.length} of ${texts.length} decided`);
    }
  };
  await Promise.all(Array.from({ length: DECIDED_AT_ONCE }, worker));
}

/** Insert a result at its text's place. */
function show(result, parts = verdict(result)) {
  const made = element("li", { class: "card" }, element("p", { class: "input" }, result.text), ...parts);
  made.value = result.place + 1;
  const after = [...byId("results").children].findLast((item) => item.value < made.value);
  if (after) after.after(made);
  else byId("results").prepend(made);
}

function verdict(result) {
  if (result.error) return [element("p", { class: "problem" }, result.error.message)];
  const inSet = new Set(result.label_set ?? []);
  const said = result.abstained ? element("p", { class: "verdict abstained" }, term("abstained", "term-abstained"))
    : element("p", { class: "verdict" }, result.label);
  const bars = result.scores.slice(0, SHOWN_LABELS).map(({ label, score }) =>
    element("tr", { class: inSet.has(label) ? "in-set" : "" },
      element("th", { scope: "row" }, label), element("td", {}, meter(score)), element("td", {}, percent(score)),
      element("td", {}, inSet.has(label) ? term("in the set", "term-set") : "")));
  const more = result.scores.length - SHOWN_LABELS;
  const notes = [];
  if (result.label_set) notes.push(element("p", { class: "note" }, term("Set", "term-set"), ": ", result.label_set.join(", ") || "no label"));
  if (more > 0) notes.push(element("p", { class: "note" }, `and ${more} more labels, all in the CSV`));
  return [said, element("table", { class: "bars" }, element("caption", { class: "unseen" }, "Probabilities of the labels"), element("tbody", {}, ...bars)), ...notes];
}

function controls(runs) {
  byId("classify-stop").disabled = !runs;
  byId("csv").disabled = runs || !done.length;
  if (runs) status("Classifying…");
}

function status(text) {
  byId("classify-status").textContent = text;
}

/** A line for each text; a column for each label that was scored. */
function asTable() {
  const sorted = [...done].sort((a, b) => a.place - b.place);
  const labels = [...new Set(sorted.flatMap((result) => (result.scores ?? []).map(({ label }) => label)))];
  const asked = sorted.some(({ question }) => question);
  const head = ["text", ...(asked ? ["question"] : []), "label", "score", "abstained", "label_set", "error", ...labels.map((label) => `p(${label})`)];
  const body = sorted.map((result) => {
    const scores = new Map((result.scores ?? []).map(({ label, score }) => [label, score]));
    return [result.text, ...(asked ? [result.question] : []), result.label, result.score, result.abstained, result.label_set?.join("; "), result.error?.message,
      ...labels.map((label) => scores.get(label))];
  });
  return [head, ...body];
}

byId("classify-form").addEventListener("submit", run);
byId("classifier").addEventListener("change", showQuestion);
byId("classify-stop").addEventListener("click", () => abort?.abort());
byId("csv").addEventListener("click", () => save("classified.csv", new Blob([csv(asTable())], { type: "text/csv" })));
