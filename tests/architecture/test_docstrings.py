"""Docstrings begin with a noun or a verb, not with a question's word."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT

FOLDERS = ("service", "loadtests", "tools", "tests", "deploy", "helm")
QUESTIONS = {"What", "Who", "Whose", "How", "When", "Whether", "Where", "Which"}


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Lines and texts of all strings that stand alone: of modules, classes, functions, names."""
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def question(text: str) -> bool:
    """True for a docstring that begins with a question's word."""
    words = text.split(maxsplit=1)
    return bool(words) and words[0].strip(".,:;'\"()") in QUESTIONS


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_begins_with_a_question(folder: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(file.read_text(encoding="utf-8"))
        if question(text)
    ]
    assert found == []


def test_a_question_is_found_wherever_it_stands() -> None:
    source = 'A = 1\n"""How it is."""\n\n\ndef f():\n    """\n    Whether so."""\n'
    assert [line for line, text in docstrings(source) if question(text)] == [2, 6]
    assert not question("Whatever is left.")
