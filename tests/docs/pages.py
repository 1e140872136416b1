"""Pages of the repository, and the code blocks in them."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block; `title` is the name of the file that it shows, or empty."""

    page: Path
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.title or self.text.splitlines()[0]}"


def pages() -> list[Path]:
    """All Markdown files that git knows or would take."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.splitlines() if (ROOT / name).is_file()]


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page that begin at the margin."""
    for language, title, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, title, text)
