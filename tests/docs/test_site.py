"""The documentation site holds every page, is built without a warning and asks no other host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config

from tests.docs.pages import DOCS, ROOT, blocks
from tools.moved_pages import moved
from tools.site_pages import navigation

OTHER_HOST = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_stands_in_the_navigation_once() -> None:
    nav = list(navigation(load_config(str(ROOT / "mkdocs.yml")).nav or []))
    ours = [page for page in nav if not page.startswith("repository/")]
    assert sorted(ours) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert all((ROOT / page.removeprefix("repository/")).is_file() for page in set(nav) - set(ours))


def test_a_page_that_is_missing_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Home\n\n[gone](gone.md)\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT}/mkdocs.yml\nnav: [index.md]\nhooks: []\n"
    )
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", f"{tmp_path}/mkdocs.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "gone.md" in done.stderr


def test_it_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert OTHER_HOST.findall(page.read_text(encoding="utf-8")) == [], page


def test_diagrams_are_left_to_mermaid_which_the_site_brings(site: Path) -> None:
    drawn = {page for page in DOCS.rglob("*.md") for b in blocks(page) if b.language == "mermaid"}
    names = {page.stem for page in drawn}
    assert names >= {"architecture", "admission", "adapters", "classification"}
    for name in names - {"index"}:
        text = (site / name / "index.html").read_text(encoding="utf-8")
        assert '<pre class="mermaid">' in text
        assert "javascripts/mermaid.min.js" in text


def test_a_sidebar_names_every_page_of_its_part(site: Path) -> None:
    text = (site / "settings/index.html").read_text(encoding="utf-8")
    sidebar = text.partition('data-md-type="navigation"')[2]
    assert all(name in sidebar for name in ("Chart values", "Runbooks", "Glossary"))


def test_names_in_tables_can_break_and_wide_diagrams_scroll_on_a_phone(site: Path) -> None:
    text = (site / "structured-output/index.html").read_text(encoding="utf-8")
    assert "<td><code>multiple<wbr>Of</code></td>" in text
    assert "stylesheets/site.css" in text
    text = (site / "admission/index.html").read_text(encoding="utf-8")
    assert '<div class="wide"><pre class="mermaid">' in text


def test_a_source_that_a_page_links_to_is_a_page(site: Path) -> None:
    text = (site / "repository/deploy/ray/serve_app.py/index.html").read_text(encoding="utf-8")
    assert "deploy/ray/serve_app.py" in text


def test_old_addresses_lead_to_the_pages_that_hold_their_content(site: Path) -> None:
    for old, new in moved().items():
        stub = site / old.removesuffix(".md") / "index.html"
        found = re.search(r"url=([^\"]+)\"", stub.read_text(encoding="utf-8"))
        assert found, old
        assert (stub.parent / found[1] / "index.html").resolve() == (
            site / new.removesuffix(".md") / "index.html"
        )
