"""The table of the demo adapters in docs/howto/finetuning.md, from their manifests' figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.adapters.manifest_yaml import load_manifest
from tools.markdown_pages import page_with

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/howto/finetuning.md"
ADAPTERS = ROOT / "deploy" / "local" / "adapters"
_FIGURES = {"accuracy": "accuracy", "ece": "ECE", "exact_match": "exact match", "chrf": "chrF"}


def adapters_table() -> str:
    """A Markdown table with a row for each adapter."""
    lines = ["| adapter | test lines | adapter's | base's |", "| --- | --- | --- | --- |"]
    for file in sorted(ADAPTERS.glob("*/adapter.yaml")):
        lines.append(_row(file.parent.name, load_manifest(file.parent).evaluation))
    return "\n".join(lines)


def page() -> str:
    """The page with the current table."""
    return page_with(PAGE, "adapters", adapters_table())


def _row(name: str, evaluation: Mapping[str, Any]) -> str:
    found, base = evaluation["test"], evaluation["test_of_the_base"]
    return f"| `{name}` | {found['lines']} | {_figures(found)} | {_figures(base)} |"


def _figures(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{title} {found[key]:.4g}" for key, title in _FIGURES.items() if found.get(key) is not None
    )
