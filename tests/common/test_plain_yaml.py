"""YAML by 1.2's core schema, for every file that the service reads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.common.plain_yaml import PlainDumper, parse, read_mapping
from service.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("010", 10),
        ("1e-3", 0.001),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("~", None),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found, _ = parse("a.yaml", f"key: {text}".encode())
    assert found == {"key": value}
    assert parse("a.yaml", yaml.dump(found, Dumper=PlainDumper).encode())[0] == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\na: 2", r"a.yaml:2: not valid YAML: key 'a' is given twice"),
        (b"a: 1\n2: 2", r"a.yaml:2: not valid YAML: key 2 is not text"),
        (b"a: [", r"a.yaml:\d: not valid YAML"),
        (b"\xff\xfe\xfa", r"a.yaml: not valid YAML"),
        (b"[" * 100_000, r"a.yaml:?\d*: not valid YAML"),
        (b"- a", r"a.yaml: must hold `key: value` lines, got a list"),
    ],
)
def test_a_refusal_names_file_and_line(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigurationError, match=message):
        read_mapping(file)


def test_a_refusal_shows_no_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse("a.yaml", b"token: sk-secret: [")
    assert "secret" not in str(refused.value)
