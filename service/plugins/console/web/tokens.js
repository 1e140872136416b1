// An answer as tokens: each coloured by its probability, with its alternatives on hover and focus.

import { byId, element, meter, percent, placeBy } from "./dom.js";

const STEPS = [0.9, 0.7, 0.4, 0.15];

const shown = (text) => text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") || "(nothing)";

/** The class of a probability: p0 is the surest. */
export function shade(probability) {
  const found = STEPS.findIndex((step) => probability >= step);
  return `p${found < 0 ? STEPS.length : found}`;
}

/** Tokens of one event of a chat or completion stream. */
export function tokensOf(choice) {
  const given = choice.logprobs;
  if (given?.content) {
    return given.content.map((each) => ({
      text: each.token,
      logprob: each.logprob,
      others: each.top_logprobs.map(({ token, logprob }) => [token, logprob]),
    }));
  }
  return (given?.tokens ?? []).map((text, index) => ({
    text,
    logprob: given.token_logprobs[index],
    others: Object.entries(given.top_logprobs?.[index] ?? {}),
  }));
}

/** Pair new text with the waiting tokens, which `waiting` loses; a token may hold half a character. */
export function* paired(waiting, text) {
  while (waiting.length && waiting[0].text && text.startsWith(waiting[0].text)) {
    const token = waiting.shift();
    text = text.slice(token.text.length);
    yield token;
  }
  if (!text) return;
  const [first, ...more] = waiting.splice(0);
  if (!first) yield { text, logprob: null, others: [] };
  else yield { text, logprob: more.reduce((sum, each) => sum + each.logprob, first.logprob), others: first.others };
}

/** A list of tokens with one tab stop, in which the arrow keys move. */
export class TokenList {
  constructor(label) {
    this.box = element("div", { class: "tokens", "aria-label": label });
    this.tokens = [];
    this.active = -1;
    this.box.addEventListener("pointerover", (event) => this.#point(event.target));
    this.box.addEventListener("pointerleave", () => hideDetail());
    this.box.addEventListener("click", (event) => this.#point(event.target));
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.box.addEventListener("focus", () => this.box.matches(":focus-visible") && this.#move(Math.max(0, this.active)));
    this.box.addEventListener("blur", () => hideDetail());
  }

  get text() {
    return this.tokens.map((token) => token.text).join("");
  }

  add(token) {
    const place = this.tokens.push(token) - 1;
    if (place === 0) {
      this.box.setAttribute("role", "listbox");
      this.box.tabIndex = 0;
    }
    const known = token.logprob !== null;
    const span = element("span", {
      role: "option",
      "aria-selected": "false",
      class: known ? `token ${shade(Math.exp(token.logprob))}` : "token",
      "aria-label": known ? `${shown(token.text)}, ${percent(Math.exp(token.logprob))}` : shown(token.text),
    }, token.text);
    span.id = `${this.box.id}-${place}`;
    span.dataset.place = place;
    this.box.append(span);
  }

  clear() {
    this.tokens = [];
    this.active = -1;
    this.box.replaceChildren();
    for (const name of ["role", "tabindex", "aria-activedescendant"]) this.box.removeAttribute(name);
  }

  #point(target) {
    const place = target.dataset?.place;
    if (place === undefined) hideDetail();
    else showDetail(this.tokens[place], target);
  }

  #key(event) {
    const last = this.tokens.length - 1;
    const to = {
      ArrowRight: this.active + 1, ArrowDown: this.active + 1,
      ArrowLeft: this.active - 1, ArrowUp: this.active - 1, Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape") hideDetail();
    if (to === undefined) return;
    event.preventDefault();
    this.#move(Math.min(last, Math.max(0, to)));
  }

  #move(place) {
    const [before, now] = [this.box.children[this.active], this.box.children[place]];
    before?.setAttribute("aria-selected", "false");
    if (!now) return;
    this.active = place;
    now.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", now.id);
    now.scrollIntoView({ block: "nearest" });
    showDetail(this.tokens[place], now);
  }
}

const detail = byId("token-detail");

function hideDetail() {
  detail.hidden = true;
}

function showDetail(token, target) {
  if (token.logprob === null) return hideDetail();
  const chosen = Math.exp(token.logprob);
  const rest = token.others.filter(([text]) => text !== token.text).slice(0, 5);
  detail.replaceChildren(...[[token.text, token.logprob], ...rest].map(([text, logprob], place) =>
    element("p", { class: place ? "" : "chosen" }, element("code", {}, shown(text)), meter(Math.exp(logprob)), percent(Math.exp(logprob)))));
  if (!rest.length && chosen < 0.995) detail.append(element("p", {}, "no alternatives were sent"));
  detail.hidden = false;
  placeBy(detail, target.getClientRects()[0]);
}

addEventListener("scroll", hideDetail, { passive: true });
