"""SECURITY.md names the tests that hold each of its points."""

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import ROOT

SECTION = "## What the service does and does not protect"
COMMENT = re.compile(r"<!-- tests:\n(.+?) -->$", re.DOTALL)


def points() -> list[str]:
    """The points of the section, each with all that stands below it."""
    section = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition(SECTION)[2]
    return re.split(r"^- ", section.partition("\n## ")[0], flags=re.MULTILINE)[1:]


@cache
def functions_of(file: str) -> frozenset[str]:
    """The names of the functions of a file; none if there is no such file."""
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(each.name for each in tree.body if isinstance(each, functions))


def test_the_section_has_points() -> None:
    assert len(points()) > 15


@pytest.mark.parametrize("point", points(), ids=lambda point: point[:40])
def test_a_point_names_tests_that_exist(point: str) -> None:
    named = COMMENT.search(point.rstrip())
    assert named, "ends without a comment `<!-- tests: ... -->`"
    missing = []
    for each in named[1].split():
        file, _, name = each.partition("::")
        if not (
            file.startswith("tests/") and name.startswith("test_") and name in functions_of(file)
        ):
            missing.append(each)
    assert missing == []
