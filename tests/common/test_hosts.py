"""Names of hosts that a list has."""

import pytest

from service.common.hosts import is_listed


@pytest.mark.parametrize(
    ("name", "listed", "found"),
    [
        ("a.example.com", ["a.example.com"], True),
        ("a.example.com", ["*.example.com"], True),
        ("a.b.example.com", ["x", "*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("evilexample.com", ["*.example.com"], False),
        ("anything", ["*"], True),
        ("anything", [], False),
    ],
)
def test_a_list_has_names_and_all_below_a_name(name: str, listed: list[str], found: bool) -> None:
    assert is_listed(name, listed) is found
