"""The table of docs/settings.md, generated from the settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.settings.section import section_of
from service.settings.tree import settings_type
from tools.engine_arguments import arguments_table
from tools.marked import page_with, replaced

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def settings_table() -> str:
    """A Markdown table with one row for each key: its default and what it means."""
    lines = ["| key | default | what |", "| --- | --- | --- |"]
    lines += [
        f"| `{key}` | {_default(field)} | {_what(field)} |" for key, field in _rows(settings_type())
    ]
    return "\n".join(lines)


def page() -> str:
    """The page with the current tables."""
    return replaced(
        page_with(PAGE, "settings", settings_table()), "engine arguments", arguments_table()
    )


def _rows(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        if nested := section_of(field.annotation):
            yield from _rows(nested, f"{key}.")
        elif entry := next(filter(None, map(section_of, get_args(field.annotation))), None):
            of_mapping = get_origin(field.annotation) is dict
            yield from _rows(entry, f"{key}.<name>." if of_mapping else f"{key}[].")
        else:
            yield key, field


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    return f"`{json.dumps(default, default=str)}`"


def _what(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")
