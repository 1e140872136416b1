"""Answers to closed questions, from /v1/decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.choices import Reading
from evaluation.client import Client
from evaluation.lines import DecisionLine
from service.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Decision:
    """The probability of each possible answer of a line, or none if the service refused."""

    probabilities: list[float]


async def decide(
    client: Client, model: str, line: DecisionLine, asking: Mapping[str, Any] | None = None
) -> Decision:
    """Ask a line's question; raises as `Client.ask`, ConfigurationError for another answer."""
    body: dict[str, Any] = {"model": model, "input": line.input, "questions": [line.question]}
    if asking is not None:
        body["asking"] = asking
    try:
        (answer,) = (await client.ask("/v1/decisions", body))["answers"]
        if answer["type"] == "refusal":
            return Decision([])
        if line.kind == "predicate":
            return Decision([answer["probability"], 1 - answer["probability"]])
        return Decision([float(each["probability"]) for each in answer["probabilities"]])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError("/v1/decisions: is not OpenAI's answer") from error


async def read_decision(client: Client, model: str, line: DecisionLine) -> Reading:
    """The answer as a reading; a refused question is an abstention among equal answers."""
    names = [str(each) for each in line.answers]
    found = (await decide(client, model, line)).probabilities
    even = [1 / len(names)] * len(names)
    return Reading(dict(zip(names, found or even, strict=True)), abstained=not found)
