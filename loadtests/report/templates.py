"""The reports' Jinja templates, and the words that they share."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from loadtests.report.beside import background, beside_table
from loadtests.report.groups import group_table
from loadtests.report.wording import goodput, index, outcomes, pairing, percent


def render(template: str, **values: Any) -> str:
    """A template's text; what comes from a server or a file is escaped in HTML, SVG and XML."""
    return _ENVIRONMENT.get_template(template).render(values)


def words(facts: Mapping[str, str]) -> str:
    """Facts on one line."""
    return ", ".join(f"{key} {value}" for key, value in facts.items())


_ENVIRONMENT = Environment(
    loader=PackageLoader("loadtests.report"),
    autoescape=select_autoescape(("html", "svg", "xml")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["percent"] = percent
_ENVIRONMENT.globals |= {
    "background": background,
    "beside_table": beside_table,
    "goodput": goodput,
    "group_table": group_table,
    "index": index,
    "outcomes": outcomes,
    "pairing": pairing,
    "words": words,
}
