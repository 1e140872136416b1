"""Held-out lines asked of a running service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.calibration.fit import GREEDY_MEASURES, Answered
from evaluation.lines import CompletedLine
from evaluation.packed import check_version
from service.adapters.confidence import Match, Measure, Siblings
from service.adapters.golden_score import agreement, same_answer
from service.adapters.manifest import Manifest
from service.common.aio import together
from service.common.client import Client


@dataclass(frozen=True, slots=True)
class Asked:
    """The whole answers, and the number of those that were cut or empty."""

    answers: Sequence[Answered]
    cut: int


async def ask_lines(
    client: Client,
    manifest: Manifest,
    lines: Sequence[CompletedLine],
    match: Match,
    max_tokens: int,
    siblings: Siblings | None = None,
) -> Asked:
    """The greedy answers of an adapter to the lines, compared with siblings; closes the client.

    Raises ConfigurationError for a service that cannot be reached, serves other bytes under the
    adapter's name, or refuses a line.
    """
    async with client:
        await check_version(client, manifest.name, manifest.digest, "/v1/adapters")
        asked = {"model": manifest.name, "temperature": 0, "max_tokens": max_tokens}
        found = await together(_answer(client, asked, line, match, siblings) for line in lines)
    whole = [answer for answer in found if answer is not None]
    return Asked(whole, len(found) - len(whole))


async def _answer(
    client: Client,
    asked: dict[str, Any],
    line: CompletedLine,
    match: Match,
    siblings: Siblings | None,
) -> Answered | None:
    request = asked | line.model_dump(include={"prompt", "messages"}, exclude_none=True)
    (output,) = (await client.ask("/v1/generate", request | {"confidence": True}))["outputs"]
    if output["finish_reason"] != "stop" or output["confidence"] is None:
        return None
    measures: dict[Measure, float] = {name: output["confidence"][name] for name in GREEDY_MEASURES}
    if siblings is not None:
        # The seeds of several answers follow the first.
        drawn = {"n": siblings.samples, "temperature": siblings.temperature, "seed": 0}
        made = (await client.ask("/v1/generate", request | drawn))["outputs"]
        texts = [each["text"] for each in made]
        measures["agreement"] = agreement(output["text"], texts, match)
    group = line.group or line.prompt or str(line.messages)
    right = any(same_answer(each, output["text"], match) for each in line.right)
    return Answered(measures, right, group)
