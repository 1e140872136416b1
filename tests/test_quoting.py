"""Values as messages show them."""

from typing import Any

import pytest

from service.quoting import quote, quote_name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (-0.5, "-0.5"),
        ("short", "'short'"),
        ("two\nlines", r"'two\nlines'"),
        ("x" * 41, "41 characters"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "an object of 1 keys"),
        (10**4299, "an integer of 14281 bits"),
    ],
)
def test_a_value_is_shown_short_and_on_one_line(value: Any, shown: str) -> None:
    assert quote(value) == shown


@pytest.mark.parametrize("value", [1 << 128, -(1 << 128), 1e308, {"k": "v" * 999}, "é" * 40])
def test_no_value_makes_a_message_long(value: Any) -> None:
    assert len(quote(value)) <= 42
    assert "\n" not in quote(value)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("top_p", "top_p"), ("a\nb", r"a\nb"), ("x" * 40, "x" * 40), ("x" * 41, "x" * 40 + "...")],
)
def test_a_name_is_shown_as_given_and_cut_when_long(name: str, shown: str) -> None:
    assert quote_name(name) == shown
