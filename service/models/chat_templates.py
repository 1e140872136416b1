"""Chat templates in a model's folder, as transformers stores them."""

import json
from pathlib import Path
from typing import Any


def tool_template(folder: Path) -> str:
    """The template of a conversation with tools: the one named `tool_use`, else the only one.

    Empty if the folder holds none that can be read.
    """
    named = folder / "additional_chat_templates" / "tool_use.jinja"
    for file in (named, folder / "chat_template.jinja"):
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if template := _chosen(_stored(folder / name)):
            return template
    return ""


def _stored(file: Path) -> Any:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document.get("chat_template") if isinstance(document, dict) else None


def _chosen(stored: Any) -> str:
    """One template of those that a file holds: one text, or a list of named ones."""
    if isinstance(stored, list):
        named = {each.get("name"): each.get("template") for each in stored}
        stored = named.get("tool_use", named.get("default"))
    return stored if isinstance(stored, str) else ""
