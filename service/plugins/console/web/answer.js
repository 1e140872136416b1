// One streamed answer: its tokens, its state and its figures.

import { events, request } from "./api.js";
import { count, element, percent, say, tell, term } from "./dom.js";
import { TokenList, paired, tokensOf } from "./tokens.js";

export class Answer {
  /** `follow(answer, runs)` is called at every start and end. */
  constructor(place, path, body, follow) {
    Object.assign(this, { path, body, follow });
    this.list = new TokenList(`Answer of ${body.model}`);
    this.list.box.id = `answer-${place}`;
    this.state = element("span", { class: "pill" });
    this.figures = element("p", { class: "figures" });
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.again = element("button", { type: "button" }, "Retry");
    this.again.addEventListener("click", () => this.run());
    this.copy = element("button", { type: "button" }, "Copy text");
    this.copy.addEventListener("click", () => navigator.clipboard.writeText(this.list.text));
    const title = element("h2", { id: `answer-title-${place}` }, body.model);
    this.box = element("article", { class: "card", "aria-labelledby": title.id },
      element("div", { class: "heading" }, title, this.state),
      this.list.box, this.problem, this.figures,
      element("div", { class: "buttons" }, this.again, this.copy));
  }

  stop() {
    this.abort?.abort();
  }

  /** Ask, and show the answer as it comes. */
  async run() {
    this.stop();
    const abort = this.abort = new AbortController();
    const times = { asked: performance.now() };
    const answer = { finish: null, usage: null };
    this.#begin();
    try {
      const stream = events(await request(this.path, { body: this.body, signal: abort.signal }));
      await this.#show(stream, times, answer);
      this.#state(answer.finish === "length" ? "cut at max tokens" : "complete");
    } catch (error) {
      if (abort.signal.aborted) this.#state("stopped");
      else {
        this.#state("failed");
        tell(this.problem, error.message);
      }
    }
    if (this.abort !== abort) return;
    this.list.box.removeAttribute("aria-busy");
    this.again.disabled = false;
    this.follow(this, false);
    this.#measure(times, answer);
    if (this.list.text) say(`Answer of ${this.body.model}, ${this.state.textContent}: ${this.list.text.slice(0, 2000)}`);
  }

  #begin() {
    this.list.clear();
    this.list.box.setAttribute("aria-busy", "true");
    tell(this.problem, "");
    this.figures.textContent = "";
    this.again.disabled = true;
    this.#state("waiting");
    this.follow(this, true);
  }

  async #show(stream, times, answer) {
    const waiting = [];
    for await (const event of stream) {
      answer.usage = event.usage ?? answer.usage;
      const choice = event.choices[0];
      if (!choice) continue;
      waiting.push(...tokensOf(choice));
      const text = choice.delta?.content ?? choice.text ?? "";
      for (const token of paired(waiting, text)) this.list.add(token);
      if (text) {
        times.last = performance.now();
        if (!times.first) this.#state("answering");
        times.first ??= times.last;
      }
      answer.finish = choice.finish_reason ?? answer.finish;
    }
  }

  #state(text) {
    this.state.textContent = text;
    this.state.dataset.state = { complete: "ready", failed: "unreachable" }[text] ?? "";
  }

  #measure(times, { usage }) {
    const found = [];
    const known = this.list.tokens.filter((token) => token.logprob !== null);
    if (usage) found.push(`${count(usage.prompt_tokens)} + ${count(usage.completion_tokens)} tokens`);
    else if (this.list.tokens.length) found.push(`${count(this.list.tokens.length)} tokens`);
    if (times.first) found.push(`first after ${Math.round(times.first - times.asked)} ms`);
    if (times.last > times.first) {
      found.push(`${((1000 * (this.list.tokens.length - 1)) / (times.last - times.first)).toFixed(1)} tokens/s`);
    }
    if (known.length) {
      const mean = known.reduce((sum, token) => sum + token.logprob, 0) / known.length;
      found.push(`${percent(Math.exp(mean))} a token (`);
    }
    this.figures.replaceChildren(found.join(" · "), ...(known.length ? [term("geometric mean", "term-mean"), ")"] : []));
  }
}
