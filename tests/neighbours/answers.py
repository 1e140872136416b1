"""Content of a response, and the comparison of two responses to one request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

IMPOSSIBLE = -9999.0
"""vLLM's log-probability of a token that a structure or list forbids; the choice of the
listed ones means nothing."""
_PER_TOKEN = ("mean_token_logprob", "min_token_probability", "mean_entropy")
"""Measures of confidence that do not grow with the answer's length."""


class Changed(AssertionError):
    """An answer that differs by more than a batch's arithmetic can explain."""


@dataclass(frozen=True)
class Place:
    """A token, its log-probability if asked for, and that of each alternative by its text."""

    token: str
    logprob: float | None = None
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One sequence with its places, or the numbers of one classified input."""

    text: str
    places: Sequence[Place] = ()
    measures: Sequence[float] = ()


def answers(response: Mapping[str, Any]) -> list[Answer]:
    """The answers in the body of a response, of whichever route."""
    if "outputs" in response:
        return [_generated(each) for each in response["outputs"]]
    if "data" in response:
        return [Answer("", measures=each["probs"]) for each in response["data"]]
    return [_choice(each) for each in response["choices"]]


def _generated(output: Mapping[str, Any]) -> Answer:
    confidence = output.get("confidence") or {}
    measures = [confidence[name] for name in _PER_TOKEN if name in confidence]
    return Answer(f"{output['text']} [{output['finish_reason']}]", measures=measures)


def _choice(choice: Mapping[str, Any]) -> Answer:
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    logprobs = choice.get("logprobs")
    if logprobs is None:
        places = [Place(str(token)) for token in choice["token_ids"]]
    elif "content" in logprobs:
        places = [
            Place(
                each["token"],
                each["logprob"],
                {top["token"]: top["logprob"] for top in each["top_logprobs"]},
            )
            for each in logprobs["content"]
        ]
    else:
        tops = logprobs["top_logprobs"] or [None] * len(logprobs["tokens"])
        places = [
            Place(token, logprob, top or {})
            for token, logprob, top in zip(
                logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True
            )
        ]
    return Answer(f"{text} [{choice['finish_reason']}]", places)


@dataclass
class Comparison:
    """Compares the answers of a request alone with those among neighbours.

    Log-probabilities may differ by `tolerance` nats, and so may the alternatives that close to the
    least likely one. Where another token is the most likely one, the two must lie within twice the
    tolerance. With `may_part`, for coarse arithmetic, a token that a seed or a penalty chose may
    change, too: its score is not in the answer. It may then stand beside the alternatives or be one
    of these, so that there is one more or one less. After such a place the contexts differ, and
    nothing more is compared.
    """

    tolerance: float
    may_part: bool = False
    compared: int = 0
    places: int = 0
    parted: int = 0
    widest: float = 0.0

    def compare(self, alone: Sequence[Answer], mixed: Sequence[Answer], *, plain: bool) -> None:
        """Raise Changed for the first answer that its neighbours changed."""
        if len(alone) != len(mixed):
            raise Changed(f"{len(alone)} answers alone, {len(mixed)} mixed")
        for one, other in zip(alone, mixed, strict=True):
            self.compared += 1
            if not self._same_places(one, other, plain=plain):
                self.parted += 1
            elif one.text != other.text:
                self._part(f"text {one.text!r}, mixed {other.text!r}", allowed=False)
                self.parted += 1
            else:
                self._close(one.measures, other.measures, "measures")

    def _same_places(self, one: Answer, other: Answer, *, plain: bool) -> bool:
        """Compare place by place; False from the first that tells of two close tokens."""
        for number, (a, b) in enumerate(zip(one.places, other.places, strict=False)):
            self.places += 1
            self._same_alternatives(a, b, number)
            if a.token != b.token:
                close = abs(a.top.get(a.token, 0) - a.top.get(b.token, -99)) <= 2 * self.tolerance
                self._part(f"place {number}: {a}, mixed {b}", allowed=plain and close)
                return False
            if a.logprob is not None and b.logprob is not None:
                self._close([a.logprob], [b.logprob], f"place {number} ({a.token!r})")
        if len(one.places) != len(other.places):
            raise Changed(f"{len(one.places)} places alone, {len(other.places)} mixed")
        return True

    def _part(self, difference: str, *, allowed: bool) -> None:
        if not allowed and not self.may_part:
            raise Changed(difference)

    def _same_alternatives(self, alone: Place, mixed: Place, place: int) -> None:
        a, b = _possible(alone.top), _possible(mixed.top)
        changed = Changed(f"place {place}: alternatives {a}, mixed {b}")
        if _impossible(alone.top) != _impossible(mixed.top):
            raise changed
        if abs(len(a) - len(b)) > self.may_part:
            raise changed
        for these, those, chosen in ((a, b, alone.token), (b, a, mixed.token)):
            # The sampled token may stand below the least likely alternative.
            edge = max(sorted(those.values())[:2], default=IMPOSSIBLE)
            for token, logprob in these.items():
                if token in those:
                    self._close([logprob], [those[token]], f"place {place}, alternative {token!r}")
                elif logprob > edge + self.tolerance and not (self.may_part and token == chosen):
                    raise changed

    def _close(self, ours: Sequence[float], theirs: Sequence[float], what: str) -> None:
        for a, b in zip(ours, theirs, strict=True):
            self.widest = max(self.widest, abs(a - b))
            if not abs(a - b) <= self.tolerance:
                raise Changed(f"{what}: {a}, mixed {b}")


def _possible(top: Mapping[str, float]) -> dict[str, float]:
    """The alternatives that may be chosen; a part of a character has no text of its own."""
    return {token: value for token, value in top.items() if token and value > IMPOSSIBLE}


def _impossible(top: Mapping[str, float]) -> int:
    return sum(value <= IMPOSSIBLE for value in top.values())
