"""`llm-service calibrate`: the probability that an adapter's answers are right.

Exit codes: 0 written, 1 the adapter is refused, 2 the lines or the service cannot be used.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation.calibration.card import CARD_TITLE, confidence_section
from evaluation.calibration.fit import GREEDY_MEASURES, Answered, fit_map
from evaluation.client import Client
from evaluation.lines import CallsLine, CompletedLine, JsonLine, read_lines
from evaluation.packed import check_version, rewriting, show_section, with_section
from service.adapters.confidence import Match, Measure, Siblings
from service.adapters.golden_score import agreement, same_answer
from service.adapters.manifest import GenerationManifest, Manifest
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.common.aio import gather
from service.errors import ConfigurationError

_KEY = "OPENAI_API_KEY"
_DEFAULT_TOKENS = 128
_KINDS: Mapping[Match, type[CompletedLine]] = {"json": JsonLine, "tool_calls": CallsLine}
"""Kinds of held-out lines for a comparison; any other takes a `CompletedLine`."""


def calibrate(
    folder: Annotated[Path, typer.Argument(help="Folder of a packed generation adapter.")],
    lines: Annotated[
        Path, typer.Option("--lines", "-l", help="Held-out JSON Lines with `completion`.")
    ],
    url: Annotated[
        str, typer.Option("--url", "-u", help="Running service that serves the adapter.")
    ] = "http://127.0.0.1:8000",
    alpha: Annotated[
        float,
        typer.Option(min=0.001, max=0.5, help="Share of requests that may get a wrong answer."),
    ] = 0.02,
    agreement: Annotated[
        int | None,
        typer.Option(
            min=2, max=16, help="Also fit a map with the agreement of so many sampled answers."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0.1, max=2, help="Temperature of these samples.")
    ] = 1.0,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the section as JSON.")] = False,
) -> None:
    """Fit the probability that an adapter's greedy answers are right.

    The map goes into the adapter's manifest, its figures into the card README.md. --agreement
    samples further answers to each line, so it takes several times as long. The adapter gets
    another digest: sign it again and reload the service. The API key is read from OPENAI_API_KEY.

    Example: llm-service calibrate adapters/commands --lines held-out.jsonl
    """
    with rewriting(folder):
        manifest = load_manifest(folder)
        if not isinstance(manifest, GenerationManifest):
            raise ConfigurationError(
                f"{folder}: must be an adapter for generation, got {manifest.task}; `finetune` "
                "calibrates classification"
            )
        match, tokens = _match(manifest)
        held_out = read_lines(lines, _KINDS.get(match, CompletedLine))
        client = Client(url, os.environ.get(_KEY), concurrency)
        siblings = _siblings(agreement, temperature)
        asked = asyncio.run(ask_lines(client, manifest, held_out, match, tokens, siblings))
        fitted = fit_map(asked.answers, match, asked.cut, alpha, siblings)
        files = with_section(folder, manifest, CARD_TITLE, confidence_section(fitted))
        changed = {"confidence": fitted, "files": files}
        write_manifest(folder, manifest.model_copy(update=changed))
        show_section(fitted, as_json)


def _siblings(samples: int | None, temperature: float) -> Siblings | None:
    return None if samples is None else Siblings(samples=samples, temperature=temperature)


def _match(manifest: GenerationManifest) -> tuple[Match, int]:
    """How the manifest's golden examples are compared, and their largest number of tokens."""
    golden = manifest.golden
    if golden is None:
        return "exact", _DEFAULT_TOKENS
    if golden.match == "regex":
        raise ConfigurationError(
            "golden.match: must be exact, json, tool_calls, token or words to compare "
            "completions, got regex"
        )
    return golden.match, golden.max_tokens


@dataclass(frozen=True, slots=True)
class Asked:
    """Complete answers, and the number of those that were cut off or empty."""

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

    Raises ConfigurationError for a service that cannot be reached, serves other weights under the
    adapter's name, or refuses a line.
    """
    async with client:
        await check_version(client, manifest.name, manifest.digest, "/v1/adapters")
        asked = {"model": manifest.name, "temperature": 0, "max_tokens": max_tokens}
        found = await gather(_answer(client, asked, line, match, siblings) for line in lines)
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
