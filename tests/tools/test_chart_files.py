"""The chart's types, its values.yaml and the table of its README agree."""

from collections.abc import Iterator
from typing import Any

import yaml

from tools.chart_files import commented_values, values_table
from tools.helm.chart import CHART
from tools.helm.values import Values


def test_every_value_is_explained() -> None:
    explained = {path for path, _ in commented_values()}
    assert {leaf for leaf in _leaves(_defaults()) if leaf not in explained} == set()


def test_every_type_has_a_default_and_every_default_a_type() -> None:
    assert set(_defaults()) == set(Values.model_fields) - {"global_"}
    Values.model_validate(_defaults())


def test_row_names_the_default() -> None:
    assert "| `service.port` | `80` | Port of the public Service. |" in values_table().splitlines()


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
