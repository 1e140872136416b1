"""The README is short, and every claim about another server has its source."""

import re

import pytest

from tests.docs.pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFINED = dict(re.findall(r"^\[([\w-]+)\]: (https://\S+)$", README, re.MULTILINE))
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in README.partition("## Why")[2].partition("\n## ")[0].splitlines()
    if line.startswith("|") and not line.startswith("| ---")
]


def test_it_has_at_most_130_lines() -> None:
    assert len(README.splitlines()) <= 130


def test_every_source_is_defined_and_used() -> None:
    assert DEFINED.keys() == set(re.findall(r"\]\[([\w-]+)\]", README))


def test_the_table_has_a_column_for_each_other_server() -> None:
    others = ("vllm serve --enable-lora", "TGI", "KServe", "LiteLLM")
    assert all(name in cell for name, cell in zip(others, ROWS[0][2:], strict=True))
    assert all(len(row) == len(ROWS[0]) == 6 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] or "head")
def test_a_row_names_its_sources(row: list[str]) -> None:
    assert any(re.search(r"\]\[[\w-]+\]|\]\(docs/", cell) for cell in row), row
