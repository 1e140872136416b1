"""The tables of docs/settings.md: the settings, and vLLM's arguments as they are checked."""

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
from tools.markdown_pages import page_with, replaced

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def settings_table() -> str:
    """Markdown tables by section, with a row for each key: its default and what it means."""
    lines: list[str] = []
    for section, rows in groupby(_rows(settings_type()), lambda row: _section(row[0])):
        lines += ["", f"## {section}", "", "| key | default | what |", "| --- | --- | --- |"]
        lines += [f"| `{key}` | {default} | {what} |" for key, default, what in rows]
    return "\n".join([*lines, ""])


def _section(key: str) -> str:
    """The first part of a key; all about adapters is one section."""
    if key.startswith("adapter") or ("." not in key and key != "engine"):
        return "adapters"
    return key.partition(".")[0].removesuffix("[]")


def arguments_table() -> str:
    """Markdown tables: arguments with a row for each answer, and connectors likewise."""
    lines = ["| argument | served by | what |", "| --- | --- | --- |"]
    lines += [
        f"| {names} | the public client | {what} |" for what, names in _by_answer(BY_STOCK).items()
    ]
    lines += [f"| {names} | none | {why} |" for why, names in _by_answer(REFUSED).items()]
    lines.append("| any other of vLLM's engine | both clients | |")
    served = ", ".join(f"`{name}`" for name in CONNECTORS)
    lines += ["", "| connector of `kv_transfer_config` | served | reason |", "| --- | --- | --- |"]
    lines.append(f"| {served} | on CUDA builds | its blocks are kept by vLLM's own hashes |")
    other = "may serve a tenant the keys and values of others, or run code of its own"
    lines.append(f"| any other, and `kv_connector_module_path` | no | {other} |")
    return "\n".join(lines)


def page() -> str:
    """The page with the current tables."""
    return replaced(
        page_with(PAGE, "settings", settings_table()), "engine arguments", arguments_table()
    )


def _rows(section: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning; of a section that came already one row."""
    first: dict[type[BaseModel], str] = {}

    def below(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
        if section in first:
            yield f"{prefix}*", "", f"As `{first[section]}*`."
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
                yield key, _default(field), _what(field)

    return below(section, "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_defaults=True)
    return f"`{json.dumps(default, default=str)}`"


def _what(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _by_answer(answers: Mapping[str, str]) -> dict[str, str]:
    """The names that have the same answer, in one cell."""
    found: dict[str, str] = {}
    for name, answer in answers.items():
        found[answer] = f"{found[answer]}, `{name}`" if answer in found else f"`{name}`"
    return found
