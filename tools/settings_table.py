"""The lists of docs/settings.md: the settings, and vLLM's arguments as they are checked."""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.settings.section import section_of
from service.settings.tree import settings_type
from service.vllm.argument_checks import BY_STOCK, CONNECTORS, REFUSED
from tools.markdown_pages import item, page_with, replaced

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def settings_list() -> str:
    """Markdown lists by section, with a line for each key: its default and what it means."""
    lines: list[str] = []
    for section, rows in groupby(_rows(settings_type()), lambda row: _section(row[0])):
        lines += ["", f"## {section}", ""]
        lines += [item(f"`{key}`{default}: {what}") for key, default, what in rows]
    return "\n".join([*lines, ""])


def _section(key: str) -> str:
    """The first part of a key; all about adapters is one section."""
    if key.startswith("adapter") or ("." not in key and key != "engine"):
        return "adapters"
    return key.partition(".")[0].removesuffix("[]")


def arguments_list() -> str:
    """Markdown lists: arguments with a line for each answer, and connectors."""
    stock = [item(f"{names}: {what}") for what, names in _by_answer(BY_STOCK).items()]
    refused = [item(f"{names}: {why}") for why, names in _by_answer(REFUSED).items()]
    served = " and ".join(f"`{name}`" for name in CONNECTORS)
    other = (
        f"connectors of `kv_transfer_config` but {served} (CUDA builds), and "
        "`kv_connector_module_path`: "
        "they may serve a tenant the keys and values of others, or run code of their own"
    )
    only, neither = "Only the public client serves:", "Neither client serves:"
    return "\n".join([only, "", *stock, "", neither, "", *refused, item(other)])


def page() -> str:
    """The page with the current lists."""
    return replaced(
        page_with(PAGE, "settings", settings_list()), "engine arguments", arguments_list()
    )


def _rows(section: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning; of a section that came already one line."""
    first: dict[type[BaseModel], str] = {}

    def below(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
        if section in first:
            yield f"{prefix}*", "", f"as `{first[section]}*`."
            return
        first[section] = prefix
        for name, field in section.model_fields.items():
            key = f"{prefix}{name}"
            if nested := section_of(field.annotation):
                yield from below(nested, f"{key}.")
            elif entry := next(filter(None, map(section_of, get_args(field.annotation))), None):
                of_mapping = get_origin(field.annotation) is dict
                yield from below(entry, f"{key}.<name>." if of_mapping else f"{key}[].")
            else:
                yield key, _default(field), field.description or ""

    return below(section, "")


def _default(field: FieldInfo) -> str:
    """The default in brackets; nothing for null."""
    if field.is_required():
        return " (required)"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_defaults=True)
    return "" if default is None else f" (`{json.dumps(default, default=str)}`)"


def _by_answer(answers: Mapping[str, str]) -> dict[str, str]:
    """The names that have the same answer, in one cell."""
    found: dict[str, str] = {}
    for name, answer in answers.items():
        found[answer] = f"{found[answer]}, `{name}`" if answer in found else f"`{name}`"
    return found
