"""Names of hosts in the header `Host`."""

import pytest

from service.errors import InvalidRequest
from service.http.auth import parse_host


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("localhost", "localhost"),
        ("LLM.Example.com:8000", "llm.example.com"),
        ("llm.example.com.", "llm.example.com"),
        ("my_service-1:80", "my_service-1"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[2001:DB8::1]:65535", "2001:db8::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
    ],
)
def test_the_name_is_without_its_port(authority: str, name: str) -> None:
    assert parse_host(authority) == name


@pytest.mark.parametrize(
    "authority",
    [
        *("", ".", "..", ".a", "a..b", ":80", "a:", "a:b", "a:80:80", "a:123456", "a:80x"),
        *("[::1].evil.com", "[127.0.0.1].evil.com", "[::1]evil.com:80", "[::1]:", "[::1]x"),
        *("[evil]", "[127.0.0.1]", "[]", "[::1", "::1", "[::1]]", "[fe80::1%25eth0]", "[1::2::3]"),
        *("user@a", "a,b", "a, b", "a b", " a", "a/b", "a?b", "a#b", "a%41", "a\n", "a\x00", "é"),
    ],
)
def test_anything_else_is_no_host(authority: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_host(authority)


def test_a_very_long_one_is_looked_at_once() -> None:
    assert parse_host("a." * 30_000) == ("a." * 30_000).removesuffix(".")
    with pytest.raises(InvalidRequest):
        parse_host("a." * 30_000 + "!")
