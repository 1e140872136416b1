// Several closed questions about each text: what the form's lines mean, and the answers as bars.

import { json } from "./api.js";
import { element, lines, meter, percent, term } from "./dom.js";

/** A line as a question: "Subject: delivery, price" chooses, "Mood: low < high" rates, the rest may be true. */
function question(line) {
  const at = line.indexOf(":");
  const said = line.slice(at + 1).trim();
  const found = (between) => said.split(between).map((each) => each.trim()).filter(Boolean);
  if (at > 0 && found(" < ").length > 1) {
    return { type: "score", instructions: line.slice(0, at), levels: found(" < ").map((label) => ({ label })) };
  }
  if (at > 0 && found(",").length > 1) {
    return { type: "choice", instructions: line.slice(0, at), choices: found(",").map((value) => ({ value })) };
  }
  return { type: "predicate", instructions: line };
}

/** The questions of the form, one on each line. */
export const questions = (text) => lines(text).map(question);

/** Ask all questions about a text; each answer has its question, what was said, and the scores. */
export async function decide(model, input, asked, signal) {
  const { answers } = await json("v1/decisions", { body: { model, input, questions: asked }, signal });
  return answers.map((answer, place) => ({ question: asked[place].instructions, ...told(answer) }));
}

function told(answer) {
  if (answer.type === "refusal") return { label: "", abstained: true, scores: [] };
  if (answer.type === "predicate") {
    const yes = answer.probability;
    return { label: yes >= 0.5 ? "yes" : "no", scores: [{ label: "yes", score: yes }, { label: "no", score: 1 - yes }] };
  }
  const scores = answer.probabilities.map(({ value, label, probability }) => ({ label: String(label ?? value), score: probability }));
  if (answer.type === "choice") scores.sort((a, b) => b.score - a.score);
  const label = answer.type === "score" ? scores.reduce((a, b) => (b.score > a.score ? b : a)).label : String(answer.choice);
  return { label, scores };
}

/** A question with its answer and the probability of each. */
export function shown({ question, label, abstained, scores }, most) {
  const said = abstained ? element("p", { class: "verdict abstained" }, term("abstained", "term-abstained"))
    : element("p", { class: "verdict" }, label);
  const bars = scores.slice(0, most).map(({ label: each, score }) =>
    element("tr", {}, element("th", { scope: "row" }, each), element("td", {}, meter(score)), element("td", {}, percent(score))));
  return [element("p", { class: "note" }, question), said, element("table", { class: "bars" },
    element("caption", { class: "unseen" }, `Probabilities: ${question}`), element("tbody", {}, ...bars))];
}
