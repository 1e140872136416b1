"""End of a command whose configuration cannot be used."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

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
