"""`llm-service calibrate-decisions`: how a model is asked closed questions, and its calibration.

Exit codes: 0 written or printed, 1 the adapter is refused, 2 the lines or the service cannot be
used.
"""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import yaml

from evaluation.calibration.decisions import CANDIDATES, fit_decisions
from evaluation.calibration.fit import MIN_LINES
from evaluation.client import Client
from evaluation.lines import DecisionLine, read_lines
from evaluation.packed import check_version, rewriting, show_section, with_section
from service.adapters.decisions import QUESTION_TYPES, DecisionsRecord
from service.adapters.manifest import GenerationManifest
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.common.command_line import markdown_table
from service.common.plain_yaml import PlainDumper
from service.errors import ConfigurationError

_KEY = "OPENAI_API_KEY"
CARD_TITLE = "Decisions"


def calibrate_decisions(
    lines: Annotated[
        Path,
        typer.Option(
            "--lines", "-l", help="Held-out JSON Lines with `input`, `question` and `answer`."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of a packed generation adapter.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Name of the base model, in place of a folder.")
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="Share of questions that may get a wrong answer."),
    ] = 0.05,
    url: Annotated[
        str, typer.Option("--url", "-u", help="Running service that serves the model.")
    ] = "http://127.0.0.1:8000",
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the section as JSON.")] = False,
) -> None:
    """Choose how a model is asked closed questions, and fit the confidence of its answers.

    Each type of question with at least 50 lines is asked in five ways; the one with the least
    held-out log loss is taken, calibrated. The section goes into the adapter's manifest, its
    figures into the card README.md; with another digest, sign it again and reload the service. For
    the base model the section is printed, for the service's configuration. The API key is read from
    OPENAI_API_KEY.

    Example: llm-service calibrate-decisions adapters/decide --lines held-out.jsonl
    """
    with rewriting(folder):
        held_out = read_lines(lines, DecisionLine)
        fit = partial(_fitted, Client(url, os.environ.get(_KEY), concurrency), held_out)
        if folder is None and base is not None:
            _show_base(asyncio.run(fit(alpha, base, None)), as_json)
        elif folder is not None and base is None:
            manifest = _generates(folder)
            fitted = asyncio.run(fit(alpha, manifest.name, manifest.digest))
            files = with_section(folder, manifest, CARD_TITLE, decisions_section(fitted))
            changed = {"decisions": fitted, "files": files}
            write_manifest(folder, manifest.model_copy(update=changed))
            show_section(fitted, as_json)
        else:
            raise ConfigurationError("name a folder, or --base")


def _generates(folder: Path) -> GenerationManifest:
    manifest = load_manifest(folder)
    if not isinstance(manifest, GenerationManifest):
        raise ConfigurationError(
            f"{folder}: must be an adapter for generation, got {manifest.task}, whose labels "
            "`calibrate-sets` calibrates"
        )
    return manifest


def _show_base(fitted: DecisionsRecord, as_json: bool) -> None:
    if as_json:
        show_section(fitted, as_json)
        return
    section = fitted.model_dump(mode="json", exclude_defaults=True)
    shown = {"decisions": {"base": section}}
    typer.echo(yaml.dump(shown, Dumper=PlainDumper, sort_keys=False), nl=False)


async def _fitted(
    client: Client,
    lines: Sequence[DecisionLine],
    alpha: float,
    name: str,
    digest: str | None,
) -> DecisionsRecord:
    async with client:
        if digest is not None:
            await check_version(client, name, digest, "/v1/adapters")
        fitted = await fit_decisions(client, name, lines, CANDIDATES, alpha)
    if fitted == DecisionsRecord():
        raise ConfigurationError(f"lines: at least {MIN_LINES} of one type are needed")
    return fitted


def decisions_section(fitted: DecisionsRecord) -> str:
    """The figures of a card, as Markdown without a heading."""
    rows = []
    for kind in QUESTION_TYPES:
        how = fitted.of(kind)
        found = how.figures
        if found is not None:
            least = "never" if how.refuse_below is None else f"{how.refuse_below:.3f}"
            several = how.orders > 1 and how.answers != "unlisted"
            asked = f"{how.answers} in {how.orders} orders" if several else how.answers
            rows.append(
                (
                    kind,
                    asked,
                    str(found.lines),
                    f"{found.accuracy:.3f}",
                    f"{found.ece:.3f}",
                    f"{found.brier:.3f}",
                    f"{found.coverage:.2f}",
                    least,
                )
            )
    head = ("question", "answers", "lines", "accuracy", "ECE", "Brier", "coverage", "sure from")
    return (
        "Measured on held-out questions, each with a calibration that did not see it. Coverage is "
        "the share of the surest answers of which at most 5 % are wrong; an answer is sure from "
        "the confidence with which at most the share `alpha` of all questions is answered "
        f"wrongly.\n\n{markdown_table(head, rows)}"
    )
