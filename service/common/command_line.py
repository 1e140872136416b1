"""Helpers for commands: messages instead of tracebacks, tables, extras, a quiet engine."""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

from service.errors import ConfigurationError


@contextmanager
def one_message() -> Iterator[None]:
    """End the command with only a configuration error's message and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each request
    try:
        yield
    except ConfigurationError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def require_extra(extra: str, *packages: str) -> None:
    """Raise ConfigurationError for packages of an extra that are not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)}: not installed; they come with the extra `{extra}`, "
            "in a checkout with `make dev`"
        )


def service_address(url: str) -> str:
    """A service's base address, without the /v1 that OpenAI's clients need."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


_WIDEST = 10_000
"""Columns of the terminal on which a table is measured."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under the names of their columns;

    no cell is cut or wrapped. A table wider than the terminal has no borders, since these would
    wrap.
    """
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if Console(width=_WIDEST).measure(table).maximum > console.width:
        table.box = None
        console = Console(width=_WIDEST)
    console.print(table)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quiet_engine() -> None:
    """Keep vLLM's log out of what a command prints; to be called before vLLM is imported.

    Its errors go to stderr; VLLM_LOGGING_LEVEL=INFO shows all.
    """
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # until vLLM sets it
