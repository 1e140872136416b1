"""The margin of a greedy answer: how far each token is ahead of the next best one.

Processors round differently, and so do float32 and bfloat16, by a few tenths of a nat in the
default model. An answer whose every token leads by a nat is the same on all of them. The model
runs in transformers and PEFT, not in the engine whose answers are examined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST = 1.0
"""The least margin, in nats, of an answer that a document states or a test expects."""


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
        return self.complete(self.rendered(messages, tools), max_tokens)

    def rendered(
        self, messages: Sequence[dict[str, str]], tools: Sequence[dict[str, Any]] | None = None
    ) -> str:
        """The prompt of a conversation."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=True
        )
        return text

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
