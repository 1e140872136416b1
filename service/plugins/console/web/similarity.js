// Similarity: the cosine of each pair of texts, by an encoder.

import { json } from "./api.js";
import { byId, element, fill, lines, reveal, tell } from "./dom.js";

const MOST_TEXTS = 20;

/** Offer the encoders that embed; without one there is no such view. */
export function offerEncoders(models) {
  const encoders = models.filter((card) => card.task === "embed");
  byId("similarity-link").hidden = !encoders.length;
  fill(byId("encoder"), { "": encoders.map((card) => [card.id, `${card.id} (${card.dimensions} dimensions)`]) });
}

const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

async function run(event) {
  event.preventDefault();
  const texts = lines(byId("texts").value);
  const wrong = texts.length < 2 || texts.length > MOST_TEXTS;
  tell(byId("similarity-problem"), wrong ? `Texts: 2 to ${MOST_TEXTS}, got ${texts.length}` : "");
  if (wrong) return;
  try {
    const answer = await json("v1/embeddings", { body: { model: byId("encoder").value, input: texts } });
    const vectors = answer.data.sort((a, b) => a.index - b.index).map((each) => each.embedding);
    byId("matrix").replaceChildren(matrix(texts, vectors));
    reveal(byId("matrix"));
  } catch (error) {
    tell(byId("similarity-problem"), error.message);
  }
}

function matrix(texts, vectors) {
  const cell = (value) => {
    const made = element("td", {}, value.toFixed(2));
    made.style.setProperty("--share", `${100 * Math.max(0, value)}%`);
    return made;
  };
  const head = element("tr", {}, element("td"), ...texts.map((_, place) => element("th", { scope: "col" }, `${place + 1}`)));
  const body = texts.map((text, row) => element("tr", {},
    element("th", { scope: "row", class: "text" }, `${row + 1}. ${text}`),
    ...vectors.map((vector) => cell(cosine(vectors[row], vector)))));
  return element("div", { class: "scroll card", role: "group", tabindex: "0", "aria-label": "Cosines of the texts" },
    element("table", { class: "matrix" }, element("caption", { class: "unseen" }, "Cosine of each pair of texts"),
      element("thead", {}, head), element("tbody", {}, ...body)));
}

byId("similarity-form").addEventListener("submit", run);
