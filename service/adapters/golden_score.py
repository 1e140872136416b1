"""Comparison of answers with golden examples, without an engine."""

import json
import math
import string
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.adapters.confidence import Match
from service.adapters.formats import PatternRefused, full_match, read_calls
from service.adapters.golden import ClassificationExample, GenerationExample
from service.adapters.manifest import GenerationGolden

_ARTICLES = frozenset(("a", "an", "the"))
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class GoldenFailure:
    """An example that was answered wrongly; `line` counts from 1, texts are cut to 200."""

    line: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """Number of examples that passed, and the first that did not."""

    total: int
    passed: int
    failure: GoldenFailure | None

    @property
    def accuracy(self) -> float:
        """Share of examples that passed, in 0..1."""
        return self.passed / self.total


def score_classification(
    examples: Sequence[ClassificationExample], answers: Sequence[frozenset[str]]
) -> GoldenResult:
    """Compare the labels each example got with those it must get: equal sets pass."""
    outcomes = [
        (answer == example.expected, ", ".join(sorted(example.expected)), ", ".join(sorted(answer)))
        for example, answer in zip(examples, answers, strict=True)
    ]
    return _result(outcomes)


def score_generation(
    examples: Sequence[GenerationExample],
    answers: Sequence[str],
    golden: GenerationGolden,
    within_s: float = math.inf,
) -> GoldenResult:
    """Compare each answer with its example.

    `exact`: equal, except for space around it. `regex`: the pattern matches the whole answer
    without the space around it. `json`: the answer is JSON and equal as a value. `tool_calls`: the
    calls are equal as values, and so is the text around them. `token`: the F1 over space-separated
    tokens (Rajpurkar et al. 2016, arXiv:1606.05250, case kept) is at least `min_token_f1`. `words`:
    the same `plain_words` in the same order. Raises PatternRefused, naming the line, for a pattern
    that takes too long, and TimeoutError if comparing all takes more than `within_s` seconds.
    """
    end = time.monotonic() + within_s
    outcomes = []
    for line, (example, answer) in enumerate(zip(examples, answers, strict=True), 1):
        if time.monotonic() > end:
            raise TimeoutError
        try:
            passed = matches(example, answer, golden)
        except PatternRefused as error:
            raise PatternRefused(f"line {line}: {error}") from error
        outcomes.append((passed, example.pattern or as_text(example.expect), answer))
    return _result(outcomes)


def matches(example: GenerationExample, answer: str, golden: GenerationGolden) -> bool:
    """True if one answer passes, see score_generation; raises PatternRefused."""
    match golden.match:
        case "exact":
            return answer.strip() == str(example.expect).strip()
        case "regex":
            return full_match(str(example.pattern), answer.strip())
        case "json":
            try:
                return _same_json(json.loads(answer), example.expect)
            except (ValueError, RecursionError):
                return False
        case "tool_calls":
            try:
                return _same_json(read_calls(answer), read_calls(str(example.expect)))
            except ValueError:
                return False
        case "token":
            return token_f1(answer, str(example.expect)) >= golden.min_token_f1
        case "words":
            return plain_words(answer) == plain_words(str(example.expect))


def token_f1(answer: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the bags of tokens, in 0..1."""
    found, wanted = answer.split(), expected.split()
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def plain_words(text: str) -> list[str]:
    """Words in lower case, without ASCII punctuation and English articles.

    Equal words are an exact match by SQuAD's script (Rajpurkar et al. 2016).
    """
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return [word for word in words if word not in _ARTICLES]


def _same_json(found: object, expected: object) -> bool:
    # Python's True == 1 is not JSON's.
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same_json(found[key], expected[key]) for key in found
        )
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_same_json, found, expected))
    return found == expected


def _result(outcomes: Sequence[tuple[bool, str, str]]) -> GoldenResult:
    failures = [
        GoldenFailure(line, expected[:200], found[:200])
        for line, (passed, expected, found) in enumerate(outcomes, 1)
        if not passed
    ]
    return GoldenResult(
        total=len(outcomes),
        passed=len(outcomes) - len(failures),
        failure=failures[0] if failures else None,
    )


def as_text(value: object) -> str:
    """A text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def same_answer(expected: str, answer: str, match: Match) -> bool:
    """True if an answer matches the expected one, as `golden_score.matches` compares them.

    Under `json` an expected answer that is not JSON matches none.
    """
    try:
        expect = json.loads(expected) if match == "json" else expected
    except (ValueError, RecursionError):
        return False
    return matches(
        GenerationExample(expect=expect), answer, GenerationGolden(file="answers", match=match)
    )


def agreement(answer: str, siblings: Sequence[str], match: Match) -> float:
    """The share of siblings, in 0..1, that are the same as the answer."""
    return sum(same_answer(answer, each, match) for each in siblings) / len(siblings)
