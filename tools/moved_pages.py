"""Pages of the documentation that were merged or renamed, docs/moved.json: old name to new name."""

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE = Path(__file__).parents[1] / "docs" / "moved.json"
_STUB = """\
<!doctype html>
<title>Moved</title>
<link rel="canonical" href="{address}">
<meta http-equiv="refresh" content="0; url={address}">
<a href="{address}">This page has moved.</a>
"""


def moved() -> Mapping[str, str]:
    """The new page of each old one, by their paths in docs/."""
    table: Mapping[str, str] = json.loads(FILE.read_text(encoding="utf-8"))
    return table


def stubs() -> Iterator[tuple[str, str]]:
    """For each old page its path in the site and a document that leads to the new one."""
    for old, new in moved().items():
        address = posixpath.relpath(_folder(new), _folder(old)) + "/"
        yield f"{_folder(old)}/index.html", _STUB.format(address=address)


def _folder(page: str) -> str:
    """The folder of a page's index.html: the site has an address without `.md` for each."""
    return page.removesuffix(".md")
