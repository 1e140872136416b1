"""Random requests of every kind whose answers do not depend on luck: greedy, or with a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_WORDS = (
    "the river town music lamp green seven bread writes quickly under old stone bridge winter and "
    "nobody answered when bells rang café naïve 日本 🙂 1984 x=y; ... \n"
).split(" ")
_LENGTHS = (3, 3, 3, 8, 8, 8, 30, 30, 200, 700)
"""Words of a prompt: the longest are read in several steps where steps are short."""
_LABELS = ("positive", "negative", "neutral", "New", "New York", "a question", "sport", "2", "20")
_SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "word": {"type": "string", "maxLength": 8}},
    "required": ["n", "word"],
    "additionalProperties": False,
}
_STRUCTURES: tuple[dict[str, Any], ...] = (
    {"choice": ["yes", "no", "perhaps not"]},
    {"regex": "[a-f]{2,6}-[0-9]{3}"},
    {"json": _SCHEMA},
)


@dataclass(frozen=True)
class Request:
    """A request; `plain` if its tokens are the most likely ones, chosen by nothing else."""

    path: str
    body: dict[str, Any]
    plain: bool


class RequestMaker:
    """Makes request `number` of a seed, always the same one, for these served names."""

    def __init__(self, seed: int, generators: Sequence[str], classifiers: Sequence[str]) -> None:
        """The first of `generators` is the base model; `classifiers` are adapters with labels."""
        self._seed = seed
        self._generators = tuple(generators)
        self._classifiers = tuple(classifiers)

    def request(self, number: int) -> Request:
        dice = random.Random(f"{self._seed}/{number}")
        kinds = (self._completion, self._completion, self._chat, self._generation, self._labels)
        return dice.choice(kinds)(dice)

    def _completion(self, dice: random.Random) -> Request:
        body, plain = self._sampled(dice)
        body["prompt"] = _text(dice)
        body["return_token_ids"] = True
        if dice.random() < 0.8:
            body["logprobs"] = dice.choice((0, 1, 2, 5, 5, 20))
        if dice.random() < 0.15 and len(body["prompt"]) < 300:
            body["echo"] = True
        if _structured(dice, body, "structured_outputs", lambda each: each):
            return Request("/v1/completions", body, plain=False)
        return Request("/v1/completions", body, plain & _steered(dice, body))

    def _chat(self, dice: random.Random) -> Request:
        body, plain = self._sampled(dice)
        body["messages"] = [{"role": "user", "content": _text(dice)}]
        body["return_token_ids"] = True
        if dice.random() < 0.8:
            body |= {"logprobs": True, "top_logprobs": dice.choice((0, 1, 3, 20))}
        if _structured(dice, body, "structured_outputs", lambda each: each):
            return Request("/v1/chat/completions", body, plain=False)
        return Request("/v1/chat/completions", body, plain & _steered(dice, body))

    def _generation(self, dice: random.Random) -> Request:
        body, plain = self._sampled(dice)
        body["prompt"] = _text(dice)
        body["confidence"] = dice.random() < 0.8
        structured = _structured(dice, body, "response_format", _response_format)
        return Request("/v1/generate", body, plain and not structured)

    def _labels(self, dice: random.Random) -> Request:
        inputs = [_text(dice, longest=30) for _ in range(dice.choice((1, 1, 2, 4)))]
        if self._classifiers and dice.random() < 0.5:
            body: dict[str, Any] = {"model": dice.choice(self._classifiers), "input": inputs}
        else:
            labels = dice.sample(_LABELS, dice.randint(2, len(_LABELS)))
            body = {
                "model": self._generators[0],
                "input": inputs,
                "candidate_labels": labels,
                "multi_label": dice.random() < 0.2,
                "calibrate": dice.random() < 0.3,
            }
        return Request("/v1/classify", body, plain=True)

    def _sampled(self, dice: random.Random) -> tuple[dict[str, Any], bool]:
        """Fields of every generation; True if nothing but the model chooses the tokens."""
        body: dict[str, Any] = {
            "model": dice.choice(self._generators),
            "max_tokens": dice.randint(1, 12),
            "temperature": 0,
        }
        if dice.random() < 0.6:
            # vLLM has one greedy answer, not several.
            body |= {"n": dice.choice((1, 1, 2, 3)), "seed": dice.randrange(1 << 31)}
            body["temperature"] = dice.choice((0.5, 1, 1.5))
            for field, value in (("top_p", 0.8), ("top_k", 40), ("min_p", 0.02)):
                if dice.random() < 0.3:
                    body[field] = value
        penalties = {"presence_penalty": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.3}
        chosen = {field: value for field, value in penalties.items() if dice.random() < 0.15}
        return body | chosen, "seed" not in body and not chosen


def _steered(dice: random.Random, body: dict[str, Any]) -> bool:
    """Add fields that only OpenAI's routes have; False if one chooses tokens."""
    steering: dict[str, Any] = {
        "logit_bias": {str(dice.randrange(40_000)): dice.choice((-100, 5, 20)) for _ in range(3)},
        "bad_words": [dice.choice(("the", " and", "e"))],
        "min_tokens": min(3, body["max_tokens"]),
        "allowed_token_ids": dice.sample(range(40_000), 60),
    }
    chosen = {field: value for field, value in steering.items() if dice.random() < 0.08}
    body |= chosen
    return not chosen


def _structured(dice: random.Random, body: dict[str, Any], field: str, form: Any) -> bool:
    if dice.random() >= 0.2:
        return False
    body[field] = form(dice.choice(_STRUCTURES))
    body["max_tokens"] += 12
    return True


def _response_format(structure: dict[str, Any]) -> dict[str, Any]:
    ((kind, value),) = structure.items()
    kind = "json_schema" if kind == "json" else kind
    return {"type": kind, kind: value}


def _text(dice: random.Random, longest: int = 700) -> str:
    length = min(dice.choice(_LENGTHS), longest)
    return " ".join(dice.choices(_WORDS, k=length)) + " ."
