// The playground for text: one request, to one model or to two side by side.

import { Answer } from "./answer.js";
import { curl, python } from "./code.js";
import { adapterOptions, byId, fill, reveal, say, tell } from "./dom.js";
import { questionFor, suggest, untouched } from "./examples.js";

const ALTERNATIVES = 5;
const form = byId("generate-form");
const answers = byId("answers");
let running = [];

/** Offer the base, and the adapters that generate. */
export function offerModels(models, adapters) {
  const base = models.filter((card) => card.task === "generation" && !adapters.some(({ name }) => name === card.id));
  const groups = {
    Model: base.map((card) => [card.id]),
    Adapters: adapterOptions(adapters.filter((each) => each.task === "generation")),
    "Quarantined": adapters.filter((each) => each.state === "quarantined").map((each) => [each.name, each.name, true]),
  };
  fill(byId("model"), groups);
  fill(byId("second"), { "": [["", "nothing"]], ...groups });
  suggestQuestion();
}

/** Show what the model was made for, while nobody wrote into the form. */
function suggestQuestion() {
  const fields = [byId("system"), byId("prompt")];
  if (!fields.every(untouched)) return;
  const { mode = "chat", system, text } = questionFor(byId("model").value) ?? {};
  form.elements.mode.value = mode;
  suggest(fields[0], system);
  suggest(fields[1], text);
  showMode();
}

const chats = () => form.elements.mode.value === "chat";

/** The path and body of the request to a model; throws an Error that names the field. */
function wanted(model) {
  const body = {
    model,
    max_tokens: Number(byId("max-tokens").value),
    temperature: Number(byId("temperature").value),
    stream: true,
    stream_options: { include_usage: true },
  };
  const [prompt, system] = [byId("prompt").value, byId("system").value.trim()];
  if (chats()) {
    const before = system ? [{ role: "system", content: system }] : [];
    Object.assign(body, { messages: [...before, { role: "user", content: prompt }], logprobs: true, top_logprobs: ALTERNATIVES });
  } else {
    Object.assign(body, { prompt, logprobs: ALTERNATIVES });
  }
  const schema = byId("schema").value.trim();
  if (schema) body.response_format = { type: "json_schema", json_schema: { name: "answer", schema: parsed(schema) } };
  return [chats() ? "v1/chat/completions" : "v1/completions", body];
}

function parsed(schema) {
  try {
    return JSON.parse(schema);
  } catch (error) {
    throw new Error(`JSON schema: ${error.message}`);
  }
}

async function run(event) {
  event.preventDefault();
  stop();
  tell(byId("generate-problem"), "");
  let requests;
  try {
    requests = models().map((model) => wanted(model));
  } catch (error) {
    tell(byId("generate-problem"), error.message);
    return;
  }
  const made = requests.map(([path, body], place) => new Answer(place, path, body, follow));
  answers.replaceChildren(...made.map((answer) => answer.box));
  byId("legend").hidden = false;
  for (const answer of made) answer.run();
  reveal(answers);
}

const models = () => [byId("model").value, byId("second").value].filter(Boolean);

/** Keep the answers that run, which Stop ends. */
function follow(answer, runs) {
  running = running.filter((each) => each !== answer);
  if (runs) running.push(answer);
  byId("stop").disabled = !running.length;
}

function stop() {
  for (const answer of running) answer.stop();
}

function showMode() {
  byId("system-field").hidden = !chats();
  byId("prompt-label").textContent = chats() ? "Message" : "Prompt";
}

async function copy(write) {
  tell(byId("generate-problem"), "");
  try {
    await navigator.clipboard.writeText(write(...wanted(byId("model").value)));
    say("Copied.");
  } catch (error) {
    tell(byId("generate-problem"), error.message);
    return false;
  }
  return true;
}

for (const [id, write] of [["copy-curl", curl], ["copy-python", python]]) {
  const button = byId(id);
  const text = button.textContent;
  button.addEventListener("click", async () => {
    if (!(await copy(write))) return;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = text; }, 1500);
  });
}
form.addEventListener("submit", run);
byId("model").addEventListener("change", suggestQuestion);
form.addEventListener("change", showMode);
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
byId("stop").addEventListener("click", stop);
