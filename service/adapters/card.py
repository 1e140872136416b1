"""The model card of a packed adapter: sections that are measured after the packing."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from service.adapters.manifest import Manifest
from service.common.files import file_digest, write_atomically
from service.errors import ConfigurationError

CARD_FILE = "README.md"


def with_section(folder: Path, manifest: Manifest, title: str, body: str) -> dict[str, str]:
    """Write a section in place of the one with this title, else at the end of the card.

    Returns the manifest's `files` with the card's new digest, which the caller has to write. `body`
    holds no heading. Raises ConfigurationError for a card that cannot be read or written.
    """
    file = folder / CARD_FILE
    try:
        card = file.read_text(encoding="utf-8") if file.exists() else f"# {manifest.name}\n"
        write_atomically(file, section_in(card, title, body).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the card cannot be read or written") from error
    return {**manifest.files, CARD_FILE: file_digest(file)}


def section_in(card: str, title: str, body: str) -> str:
    """The card with the section: a heading of two marks, and its body up to the next heading."""
    section = f"## {title}\n\n{body.strip()}\n"
    there = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if there.search(card) is None:
        return f"{card.rstrip()}\n\n{section}"
    return there.sub(lambda found: section if found.end() == len(card) else f"{section}\n", card)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
