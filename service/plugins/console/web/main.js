// The console: views by the address's fragment, the key, and the models that it may use.

import { Refusal, hasKey, json, setKey } from "./api.js";
import { showAccount } from "./account.js";
import { offerClassifiers } from "./classify.js";
import { byId, tell } from "./dom.js";
import { keepExamples } from "./examples.js";
import { offerModels } from "./generate.js";
import { offerEncoders } from "./similarity.js";
import "./theme.js";

const VIEWS = ["generate", "classify", "similarity", "account"];
const HEALTH_SECONDS = 15;

const dialog = byId("key-dialog");
let connected = false;

function showView() {
  const wanted = location.hash.slice(1);
  const view = VIEWS.includes(wanted) ? wanted : VIEWS[0];
  for (const name of VIEWS) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${byId(`${view}-title`).textContent} · llm-service console`;
  if (view === "account" && connected) showAccount();
}

/** Read the models and adapters of the key; without one that is live, ask for it. */
async function connect() {
  try {
    const [models, adapters] = await Promise.all([json("v1/models"), json("v1/adapters")]);
    keepExamples(adapters.data);
    offerModels(models.data, adapters.data);
    offerClassifiers(models.data, adapters.data);
    offerEncoders(models.data);
    tell(byId("problem"), models.data.length ? "" : "This key may use no model.");
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) return askForKey();
    tell(byId("problem"), error.message);
    return;
  }
  connected = true;
  dialog.close();
  byId("key-button").hidden = !hasKey();
  showView();
}

function askForKey() {
  tell(byId("key-problem"), hasKey() ? "The service knows no such key." : "");
  setKey("");
  if (!dialog.open) dialog.showModal();
}

async function showHealth() {
  if (document.hidden) return;
  const pill = byId("health");
  const state = await json("health").then(() => "ready", (error) => (error instanceof Refusal ? "not ready" : "unreachable"));
  if (pill.textContent !== state) pill.textContent = state;
  pill.dataset.state = state;
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  connect();
});
byId("key-button").addEventListener("click", () => {
  tell(byId("key-problem"), "");
  dialog.showModal();
});
addEventListener("hashchange", showView);
document.addEventListener("visibilitychange", showHealth);
setInterval(showHealth, 1000 * HEALTH_SECONDS);

showView();
showHealth();
connect();
