"""Hook of mkdocs: pages of the site for files of the repository that stand outside docs/.

A page links to such a file as it does on a forge, by a relative path, and the navigation names it
below `repository/`. The site gets a page for each: Markdown as it is, images as they are, all else
as a block of code. So the site holds all files that it links to and needs no network.
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.markdown_pages import rewritten, targets
from tools.moved_pages import stubs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SCRIPT = ROOT / ".cache" / "site" / "mermaid.min.js"
"""Mermaid as `tools.mermaid` fetches it; without this file the diagrams stay text."""

_PREFIX = "repository"
_IMAGES = {".png", ".svg"}
_WIDE = re.compile(
    r'<pre class="mermaid"><code>(?:sequenceDiagram|flowchart LR|flowchart TB\s+subgraph).*?</pre>',
    re.DOTALL,
)
_CELL = re.compile(r"<td.*?</td>", re.DOTALL)
_CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
_BOOSTS = {"howto/": 2.0, "decisions/": 0.2, "repository/CHANGELOG": 0.1}
"""How much the search prefers the pages of a folder, or avoids them; 1 for others."""
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site with those that the navigation names and that pages link to."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    named = [_origin(place) for place in navigation(config.nav or []) if _is_outside(place)]
    for file in [*named, *_linked_from([*pages, *named])]:
        files.append(_site_file(file, config))
    if SCRIPT.is_file():
        script = f"javascripts/{SCRIPT.name}"
        files.append(File.generated(config, script, abs_src_path=str(SCRIPT)))
    else:
        logging.getLogger("mkdocs").info("no %s: diagrams stay text; run `make docs`", SCRIPT)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page with links to pages of the site."""
    here = page.file.src_uri
    for folder, boost in _BOOSTS.items():
        if here.startswith(folder):
            page.meta.setdefault("search", {"boost": boost})

    def change(label: str, target: str) -> str:
        name, mark, anchor = target.partition("#")
        if ":" in name or not name:
            return f"[{label}]({target})"
        place = _place(_resolved(_origin(here), name))
        if place is None:
            return label
        return f"[{label}]({posixpath.relpath(place, posixpath.dirname(here))}{mark}{anchor})"

    return rewritten(markdown, change)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with wide diagrams that can scroll and with names in tables that can break."""
    html = _WIDE.sub(r'<div class="wide">\g<0></div>', html)
    return _CELL.sub(lambda cell: _CODE.sub(_breakable, cell[0]), html)


def on_post_build(config: MkDocsConfig) -> None:
    """Old addresses lead to the pages that hold their content now."""
    for name, text in stubs():
        file = Path(config.site_dir, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _breakable(code: re.Match[str]) -> str:
    """A name that may break after `.`, `_` and `/` and before a capital letter."""
    return re.sub(r"(?<=\w)[._/]+(?=\w)|(?<=[a-z])(?=[A-Z])", r"\g<0><wbr>", code[0])


def navigation(entries: list[Any]) -> Iterator[str]:
    """The pages of a part of the navigation, in its order."""
    for entry in entries:
        named = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from navigation(named) if isinstance(named, list) else [named]


def _is_outside(place: str) -> bool:
    return place.startswith(f"{_PREFIX}/")


def _linked_from(pages: list[Path]) -> Iterator[Path]:
    seen = set(pages)
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        for target in targets(page.read_text(encoding="utf-8")):
            name = target.partition("#")[0]
            if ":" in name or not name:
                continue
            file = _resolved(page, name)
            if file.is_file() and file not in seen and not file.is_relative_to(DOCS):
                seen.add(file)
                yield file
                if file.suffix == ".md":
                    waiting.append(file)


def _resolved(page: Path, name: str) -> Path:
    """The file that a link of a page leads to; for a folder its README.md, if there is one."""
    file = (page.parent / name).resolve()
    readme = file / "README.md"
    return readme if readme.is_file() else file


def _place(file: Path) -> str | None:
    """Path of a file within the sources of the site; None for a folder, which has no page."""
    if not file.is_file():
        return None
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix()
    suffix = "" if file.suffix in {".md", *_IMAGES} else ".md"
    return f"{_PREFIX}/{file.relative_to(ROOT).as_posix()}{suffix}"


def _origin(place: str) -> Path:
    """The file that a page of the site was made from."""
    if not _is_outside(place):
        return DOCS / place
    file = ROOT / place.removeprefix(f"{_PREFIX}/")
    return file if file.is_file() else file.with_suffix("")


def _site_file(file: Path, config: MkDocsConfig) -> File:
    place = _place(file)
    assert place is not None
    if file.suffix in _IMAGES:
        return File.generated(config, place, abs_src_path=str(file))
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".md":
        name = file.relative_to(ROOT).as_posix()
        language = _LANGUAGES.get(file.suffix, "text")
        hidden = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"
        text = f"{hidden}# `{name}`\n\n~~~~{language}\n{text}\n~~~~\n"
    return File.generated(config, place, content=text)
