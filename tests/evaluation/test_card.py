"""Sections of a model card: put at the end once, then replaced."""

import pytest

from evaluation.packed import section_in
from service.common.command_line import markdown_table

CARD = "# name 1.0.0\n\nText.\n\n## Training\n\nData.\n"


def test_a_section_stands_at_the_end_and_is_replaced_where_it_stands() -> None:
    one = section_in(CARD, "Confidence", "first\n")
    assert one == f"{CARD}\n## Confidence\n\nfirst\n"
    both = section_in(one, "Suite a", "figures")
    assert both == f"{one}\n## Suite a\n\nfigures\n"
    again = section_in(both, "Confidence", r"second \1")
    assert again == f"{CARD}\n## Confidence\n\nsecond \\1\n\n## Suite a\n\nfigures\n"
    assert section_in(again, "Suite a", "figures") == again


@pytest.mark.parametrize("title", ["Train", "Training more"])
def test_a_section_of_another_title_stays(title: str) -> None:
    assert section_in(CARD, title, "x").startswith(CARD)


def test_a_table() -> None:
    assert markdown_table(("", "b"), [("c", "d")]) == "|  | b |\n| --- | --- |\n| c | d |"
