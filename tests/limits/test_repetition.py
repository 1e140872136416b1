"""Regular expressions that match one text in many ways."""

import re

import pytest

from service.errors import UnsupportedFeature
from service.limits.regex import check_regex
from service.limits.structure import check_schema
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()
MANY_WAYS = [
    "([a-z]+)+",
    "(([a-z]*)*)*",
    "([a-z]+ ?)+x",
    "([a-z]{1,30} ?){1,20}",
    "([a-z]?[a-z]?[a-z]?)*x",
    "([a-z]*[0-9]*)*x",
    "(a?){100}",
    "(a|b|a+)*",
    "((a|aa|aaa)*)*b",
    r"(\w+\s?)+",
    r"(\d+(\.\d+)?)*",
    "(.*,)*",
    "([^a]+b)*",
    "(é+ü)*",
    r"([/\w .-]*)*/?",
    "x(?:(?:[a-z]+)+,)?y",
    "(?P<a>[a-z]*)+",
    "([^ab]+c)*",
    "([ab]+a)*",
    "([a-z]+a)*",
    "([a-z]+z)*",
    "([д-ж]+ü)*",
    r"(\D+a)*",
    "(.*é)*",
    "(^a*)*",
    "((ab|cd)*a)*",
    "((a+|bc)a)*",
    "(a+)+|b",
    "((ab)*a)*",
    "((a)(?(2)a+|b))*",
    "(a*){2}",
    "(a+b{0})*",
]
ONE_WAY = [
    r"\w+(\s\w+)*",
    r"(\w+,)*\w+",
    r"([a-z]+@)+",
    r"(\w+\s*=\s*\w+;)*",
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+[a-z]{2,63}",
    '("[^"]*",?)*',
    "((a+,)+;)*",
    "((a+,)|(b+;))*",
    "[a-z]*[a-z]*b",
    "(a|aa)+",
    "(ab?)*",
    r"P(\d+Y)?(\d+M)?",
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"(\d{1,3}\.){3}\d{1,3}",
    r"(.|\n)*",
    "([a-z]{3})*",
    "^(?=a)b+$",
    "([^ab]+a)*",
    r"([a-z]+\{)*",
    "([д-ж]+x)*",
    r"(\D+1)*",
    "(a*)?",
    "(a+b{2})*",
    "(^)*",
]


@pytest.mark.parametrize("pattern", MANY_WAYS)
def test_rounds_that_nothing_ends_are_refused(pattern: str) -> None:
    with pytest.raises(
        UnsupportedFeature, match="needs a character that ends each round"
    ) as refused:
        check_regex(pattern, LIMITS, "regex")
    assert refused.value.param == "regex"
    check_schema({"type": "string", "pattern": pattern}, LIMITS, "schema")  # an automaton has one


@pytest.mark.parametrize("pattern", ONE_WAY)
def test_rounds_that_a_character_ends_pass(pattern: str) -> None:
    re.compile(pattern)
    check_regex(pattern, LIMITS, "regex")
