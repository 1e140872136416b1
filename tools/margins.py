"""The margin of a greedy answer: how far each token is ahead of the next best one.

Processors round differently, and so do float32 and bfloat16, by a few tenths of a nat in the
default model. An answer whose every token leads by a nat is the same on all of them. The model
runs in transformers and PEFT, not in the engine whose answers are examined.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.command_line import command_line

MODEL = Path(".cache/models/smollm2-135m-instruct")
LEAST = 1.0
"""The least margin, in nats, of an answer that a document states or a test expects."""

_HELP = """\
Print a greedy answer token by token, and how many nats each token leads the next best one by, in
float32 and in bfloat16. The answer is float32's; a negative number means that bfloat16 chooses
another token there. The exit code is 1 where a token leads by less than --least.

  python -m tools.margins "Which planet is the largest?"
  python -m tools.margins --system "Answer in one word." "Is ice cold?" "Yes." "Is fire cold?"
  python -m tools.margins --plain "One, two, three," --max-tokens 4
  python -m tools.margins --adapter deploy/local/adapters/commands "set a timer for 5 minutes"
  python -m tools.margins $'Review: I loved it.\\nSentiment:' --among ' positive' ' negative'
"""


@dataclass(frozen=True)
class Step:
    """A token of the answer and its lead over the next best one, in nats."""

    token: str
    float32: float
    bfloat16: float

    @property
    def least(self) -> float:
        return min(self.float32, self.bfloat16)


class Reference:
    """A model of a local folder, with a PEFT adapter or without, in both types."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        import torch
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._float32 = self._load(folder, adapter, torch.float32)
        self._bfloat16 = self._load(folder, adapter, torch.bfloat16)

    def chat(
        self,
        messages: Sequence[dict[str, str]],
        max_tokens: int = 64,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> list[Step]:
        """The answer to a conversation, under the model's own chat template."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=True
        )
        return self.complete(text, max_tokens)

    def complete(self, prompt: str, max_tokens: int = 64) -> list[Step]:
        """The continuation of a text; the end token is its last step."""
        ids = self._tokenizer(prompt, return_tensors="pt")
        with self._torch.inference_mode():
            whole = self._float32.generate(**ids, max_new_tokens=max_tokens, do_sample=False)
            start = ids["input_ids"].shape[1]
            leads = [self._leads(model, whole, start) for model in (self._float32, self._bfloat16)]
        tokens = [self._tokenizer.decode(token) for token in whole[0, start:]]
        return [Step(*step) for step in zip(tokens, *leads, strict=True)]

    def choose(self, prompt: str, words: Sequence[str]) -> Step:
        """The most likely next word of these; ValueError if one is not a single token."""
        ids = self._tokenizer(prompt, return_tensors="pt")
        tokens = [self._tokenizer.encode(word, add_special_tokens=False) for word in words]
        for word, token in zip(words, tokens, strict=True):
            if len(token) != 1:
                raise ValueError(f"{word!r}: must be one token, is {len(token)}")
        with self._torch.inference_mode():
            float32, bfloat16 = (
                model(**ids).logits[0, -1, tokens].flatten().tolist()
                for model in (self._float32, self._bfloat16)
            )
        best = max(range(len(words)), key=float32.__getitem__)
        leads = [_lead(scores, best) for scores in (float32, bfloat16)]
        return Step(words[best], *leads)

    def _load(self, folder: Path, adapter: Path | None, dtype: Any) -> Any:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).to(dtype)
        return model.eval()

    def _leads(self, model: Any, whole: Any, start: int) -> list[float]:
        logits = model(whole).logits[0, start - 1 : -1].float()
        chosen = whole[0, start:, None]
        lead = logits.gather(1, chosen)[:, 0]
        others = logits.scatter(1, chosen, float("-inf")).amax(dim=1)
        leads: list[float] = (lead - others).tolist()
        return leads


def _lead(scores: Sequence[float], best: int) -> float:
    return scores[best] - max(score for at, score in enumerate(scores) if at != best)


def _conversation(turns: Sequence[str], system: str | None) -> list[dict[str, str]]:
    """The turns as messages: the user's and the assistant's in alternation."""
    said = [("user", "assistant")[at % 2] for at in range(len(turns))]
    messages = [{"role": role, "content": text} for role, text in zip(said, turns, strict=True)]
    return [{"role": "system", "content": system}, *messages] if system else messages


def _options() -> argparse.Namespace:
    parser = command_line("tools.margins", _HELP)
    parser.add_argument("turns", nargs="+", help="user, assistant, user, ... in alternation")
    parser.add_argument("--system", help="the system message")
    parser.add_argument("--plain", action="store_true", help="continue the one text; no template")
    parser.add_argument("--among", nargs="+", metavar="WORD", help="words, one of which comes next")
    parser.add_argument("--adapter", type=Path, help="folder of a LoRA adapter")
    parser.add_argument("--model", type=Path, default=MODEL, help=f"folder; default {MODEL}")
    parser.add_argument("--max-tokens", type=int, default=64, help="default 64")
    parser.add_argument("--least", type=float, default=LEAST, help=f"nats; default {LEAST}")
    options = parser.parse_args()
    options.plain |= bool(options.among)
    if options.plain and (len(options.turns) > 1 or options.system):
        parser.error("turns: --plain and --among take one text and no --system")
    if len(options.turns) % 2 == 0:
        parser.error(f"turns: the last must be the user's, got {len(options.turns)} of them")
    return options


def _steps(options: argparse.Namespace) -> list[Step]:
    reference = Reference(options.model, options.adapter)
    if options.among:
        return [reference.choose(options.turns[0], options.among)]
    if options.plain:
        return reference.complete(options.turns[0], options.max_tokens)
    return reference.chat(_conversation(options.turns, options.system), options.max_tokens)


def main() -> int:
    """Print the table of one answer; returns 1 if its least margin is too small."""
    options = _options()
    steps = _steps(options)
    rows = [(repr(step.token), step.float32, step.bfloat16) for step in steps]
    rows.append(("least", min(s.float32 for s in steps), min(s.bfloat16 for s in steps)))
    width = max(len(token) for token, *_ in rows)
    print(f"{'token':{width}}  float32  bfloat16")
    for token, float32, bfloat16 in rows:
        print(f"{token:{width}}  {float32:7.2f}  {bfloat16:8.2f}")
    return int(min(step.least for step in steps) < options.least)


if __name__ == "__main__":
    sys.exit(main())
