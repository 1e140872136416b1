"""Commands that write a section into the manifest of a packed folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import BaseModel

from service.adapters.formats import AdapterRefused
from service.adapters.heads import HeadRefused
from service.adapters.manifest import SIGNATURE_FILE
from service.common.command_line import one_message


@contextmanager
def rewriting(folder: Path | None) -> Iterator[None]:
    """Say in one message what is refused, and afterwards that a signature is of the old files.

    Without a folder nothing is rewritten, and there is only the message.
    """
    with one_message():
        try:
            yield
        except (AdapterRefused, HeadRefused) as error:
            typer.echo(f"refused: {error}", err=True)
            raise typer.Exit(1) from None
        if folder is not None and (folder / SIGNATURE_FILE).exists():
            typer.echo(f"sign again: {SIGNATURE_FILE} is of the old manifest", err=True)


def show_section(section: BaseModel, as_json: bool) -> None:
    """Print a section that was written, as JSON or with a line for each field."""
    if as_json:
        typer.echo(section.model_dump_json())
        return
    for name, value in section.model_dump().items():
        typer.echo(f"{name}: {json.dumps(value)}")
