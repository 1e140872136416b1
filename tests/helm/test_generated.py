"""The schema and the README's table say what the types, the settings and values.yaml say."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART
from tests.helm.generated import (
    BEGIN,
    END,
    README,
    SCHEMA,
    commented_values,
    schema_text,
    values_table,
    with_table,
)
from tests.helm.values import Values


def test_schema_is_current() -> None:
    current = SCHEMA.read_text(encoding="utf-8")
    assert current == schema_text(), "run: python -m tests.helm.generated"


def test_table_is_current() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme == with_table(readme), "run: python -m tests.helm.generated"


def test_every_value_is_explained() -> None:
    explained = {path for path, _ in commented_values()}
    assert {leaf for leaf in _leaves(_defaults()) if leaf not in explained} == set()


def test_every_type_has_a_default_and_every_default_a_type() -> None:
    assert set(_defaults()) == set(Values.model_fields) - {"global_"}
    Values.model_validate(_defaults())


def test_row_names_the_default() -> None:
    assert "| `service.port` | `80` | Its port. |" in values_table().splitlines()


def test_text_around_the_table_is_kept() -> None:
    text = with_table(f"before\n{BEGIN}\nout of date\n{END}\nafter\n")
    assert text.startswith(f"before\n{BEGIN}\n| key ")
    assert text.endswith(f" |\n{END}\nafter\n")
    assert "out of date" not in text


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="values: begin"):
        with_table(f"text\n{BEGIN}\n")


def _defaults() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return tree


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths that a reader must find explained: what Kubernetes defines is one value."""
    explained = {found for found, _ in commented_values()}
    for key, value in tree.items():
        here = (*path, key)
        if isinstance(value, dict) and here not in explained:
            yield from _leaves(value, here)
        else:
            yield here
