"""Generated answers of a model, and their figures."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.client import Client
from evaluation.estimate import Estimate, mean, share
from evaluation.lines import AskedLine, CompletedLine, PatternLine
from evaluation.suite import Generation
from service.adapters.formats import PatternRefused
from service.adapters.golden import GenerationExample
from service.adapters.golden_score import matches, token_f1
from service.adapters.manifest import GenerationGolden
from service.errors import ConfigurationError


async def generate_answer(client: Client, model: str, line: AskedLine, max_tokens: int) -> str:
    """The greedy answer to a line, empty for one without text.

    Raises Refused, and ConfigurationError for an answer that is not OpenAI's.
    """
    body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": max_tokens}
    if line.messages is not None:
        chat = [each.model_dump() for each in line.messages]
        answer = await client.ask("/v1/chat/completions", body | {"messages": chat})
    else:
        answer = await client.ask("/v1/completions", body | {"prompt": line.prompt})
    try:
        choice = answer["choices"][0]
        return str((choice["message"]["content"] if line.messages else choice["text"]) or "")
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigurationError("the answer is not in OpenAI's format") from error


def answer_figures(
    task: Generation, lines: Sequence[AskedLine], answers: Sequence[str]
) -> dict[str, Estimate]:
    """The share of answers that match and, if lines have completions, the means of two scores.

    These are chrF2 (0..100) and token F1 (0..1), each of the right answer that scores highest.
    """
    pairs = list(zip(lines, answers, strict=True))
    figures = {"match": share(sum(_matches(task, *each) for each in pairs), len(pairs))}
    expected = [line.right for line in lines if isinstance(line, CompletedLine)]
    if expected:
        for name, score in (("chrf", chrf), ("token_f1", token_f1)):
            best = [
                max(score(answer, each) for each in right)
                for answer, right in zip(answers, expected, strict=True)
            ]
            figures[name] = mean(np.array(best))
    return figures


def refusal_figures(patterns: Sequence[str], answers: Sequence[str]) -> dict[str, Estimate]:
    """The share of answers in which one of the patterns is found, ignoring case."""
    found = [any(re.search(each, text, re.IGNORECASE) for each in patterns) for text in answers]
    return {"refusal": share(sum(found), len(found))}


def _matches(task: Generation, line: AskedLine, answer: str) -> bool:
    if isinstance(line, CompletedLine):
        read = json.loads if task.match == "json" else str
        examples = [GenerationExample(expect=read(each)) for each in line.right]
    else:
        pattern = line.pattern if isinstance(line, PatternLine) else None
        examples = [GenerationExample(pattern=pattern)]
    golden = GenerationGolden(file="lines", match=task.match)
    try:
        return any(matches(each, answer, golden) for each in examples)
    except PatternRefused as error:
        raise ConfigurationError(f"{task.name}: {error}") from error


_ORDER = 6
_RECALL = 4  # beta squared


def chrf(answer: str, expected: str) -> float:
    """chrF2 (Popovic 2015, 2016) of one answer, 0..100, with sacrebleu's defaults.

    Spaces are ignored, and so are the orders n = 1..6 for which either text is too short.
    """
    found, wanted = "".join(answer.split()), "".join(expected.split())
    precisions, recalls = [], []
    for order in range(1, min(_ORDER, len(found), len(wanted)) + 1):
        ours, theirs = _grams(found, order), _grams(wanted, order)
        common = (ours & theirs).total()
        precisions.append(common / ours.total())
        recalls.append(common / theirs.total())
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + _RECALL) * precision * recall / (_RECALL * precision + recall)


def _grams(text: str, order: int) -> Counter[str]:
    return Counter(text[at : at + order] for at in range(len(text) - order + 1))
