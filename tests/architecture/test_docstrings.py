"""Docstrings begin with a noun or a verb, not with a question's word or a pronoun."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT

FOLDERS = ("service", "loadtests", "tools", "tests", "deploy", "helm")
OPENINGS = set(
    """What Who Whose How When Whether Where Which
    It Its They Their Those As By Like Of""".split()
)
"""Words that ask, stand for a noun of another sentence, or put another word before the noun."""


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Lines and texts of all strings that stand alone: of modules, classes, functions, names."""
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def opens_wrongly(text: str) -> bool:
    """True for a docstring that begins with one of these words."""
    words = text.split(maxsplit=1)
    return bool(words) and words[0].strip(".,:;'\"()") in OPENINGS


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_docstring_begins_with_a_noun_or_a_verb(folder: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(file.read_text(encoding="utf-8"))
        if opens_wrongly(text)
    ]
    assert found == []


def test_a_wrong_word_is_found_wherever_it_stands() -> None:
    source = 'A = 1\n"""How it is."""\n\n\ndef f():\n    """\n    Whether so."""\n'
    assert [line for line, text in docstrings(source) if opens_wrongly(text)] == [2, 6]
    assert opens_wrongly("Those of a text.")
    assert not opens_wrongly("Whatever is left.")
