"""Tables that commands print."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_WIDEST = 10_000
"""Columns of the terminal on which a table is measured."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under the names of their columns; no cell is cut or wrapped.

    A table that is wider than the terminal has no lines, since these would be wrapped too.
    """
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if Console(width=_WIDEST).measure(table).maximum > console.width:
        table.box = None
        console = Console(width=_WIDEST)
    console.print(table)
