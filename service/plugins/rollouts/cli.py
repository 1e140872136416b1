"""`llm-service releases`: shows which versions the names stood for, from the log."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from service.common.command_line import one_message
from service.plugins.rollouts.feedback_ledger import Tally, Version, read_tallies, told
from service.plugins.rollouts.log import Change, read_log
from service.plugins.rollouts.shared_store import read_store
from service.settings.section import REDIS_ADDRESS

app = typer.Typer(no_args_is_help=True, help="Read the log of releases and the feedback.")

StoreOption = Annotated[
    str,
    typer.Option(
        "--store", "-s", help="Folder of `releases.path`, or address of `releases.storage`."
    ),
]


@app.command("list")
def list_(
    store: StoreOption,
    name: Annotated[str | None, typer.Option(help="Only this adapter; default all.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines with evidence.")
    ] = False,
) -> None:
    """Print every change of the version behind a name, the oldest first.

    Example: llm-service releases list --store /var/lib/llm-service/releases --name sentiment
    """
    with one_message():
        changes, _ = _log_of(store)
    chosen = [each for each in changes if name in (None, each.name)]
    if as_json:
        for change in chosen:
            typer.echo(json.dumps(asdict(change)))
        return
    for change in chosen:
        typer.echo(_line(change))


@app.command()
def verify(store: StoreOption) -> None:
    """Check the chain of the log, and print its length and the digest of its last line.

    Keep that digest elsewhere: only comparing it shows that lines are missing at the end.

    Example: llm-service releases verify --store /var/lib/llm-service/releases
    """
    with one_message():
        changes, head = _log_of(store)
    typer.echo(f"{len(changes)} changes, unbroken; the last line's sha256 is {head}")


@app.command()
def accuracy(
    store: StoreOption,
    name: Annotated[str | None, typer.Option(help="Only this adapter; default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Print each version's accuracy according to feedback.

    Example: llm-service releases accuracy --store /var/lib/llm-service/releases
    """
    with one_message():
        figures = told(_tallies_of(store))
    chosen = [each for each in figures if name in (None, each["adapter"])]
    for each in chosen:
        typer.echo(json.dumps(each) if as_json else _figures(each))
    if not chosen:
        typer.echo("no feedback yet", err=True)


def _log_of(store: str) -> tuple[list[Change], str]:
    if re.match(REDIS_ADDRESS, store):
        changes, head, _ = read_store(store)
        return changes, head
    return read_log(Path(store))


def _tallies_of(store: str) -> Mapping[Version, Tally]:
    return read_store(store)[2] if re.match(REDIS_ADDRESS, store) else read_tallies(Path(store))


def _figures(each: dict[str, Any]) -> str:
    """The figures of a version; `-` for what no feedback said."""
    shown = [
        f"{figure} {'-' if each[figure] is None else each[figure]}"
        for figure in ("accuracy", "calibration_error", "coverage")
    ]
    return f"{each['adapter']}@{each['version']} rated {each['rated']} {' '.join(shown)}"


def _line(change: Change) -> str:
    before, after = (_short(digest) for digest in (change.before, change.after))
    return (
        f"{change.number} {change.time} {change.name} {change.event} {before} -> {after} "
        f"share {change.share:g} by {change.by}"
    )


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest.removeprefix("sha256:")[:12]
