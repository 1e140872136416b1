"""The chart's generated files: values.schema.json, the table of values in its README, its routes.

The schema comes from the types of values and settings, the table from the comments of values.yaml
that begin with `# --`, the routes from the service's table of operations.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from service.common.operations import OPERATIONS
from service.runtime.parts import plugin_types
from service.settings.names import OLD_SECTIONS
from tools.helm.values import Values
from tools.markdown_pages import page_with

CHART = Path(__file__).parents[1] / "helm"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
ROUTES = CHART / "files" / "routes.yaml"
# Suffixes of the paths whose bodies llm-d's endpoint picker reads (0.10), of OpenAI and Anthropic.
_PARSED = ("/completions", "/embeddings", "/messages", "/responses")
_KEY = re.compile(r"^( *)([A-Za-z]+):")


def schema_text() -> str:
    """The JSON Schema of the values, in the draft that every Helm since 3.0 reads."""
    schema = Values.model_json_schema()
    sections = schema["$defs"]["Settings"]["properties"]
    sections |= {old: sections[new] for old, new in OLD_SECTIONS.items()}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_stripped(schema),
        "title": "Values of llm-service",
    }
    return json.dumps(schema, indent=1) + "\n"


def values_table() -> str:
    """A Markdown table with one row for each commented value: its default and what it means."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    lines = ["| key | default | what |", "| --- | --- | --- |"]
    for path, what in commented_values():
        default: Any = defaults
        for key in path:
            default = default[key]
        shown = "see values.yaml" if path == ("config",) else f"`{json.dumps(default)}`"
        cell = what.replace("|", "\\|")
        lines.append(f"| `{'.'.join(path)}` | {shown} | {cell} |")
    return "\n".join(lines)


def commented_values() -> Iterator[tuple[tuple[str, ...], str]]:
    """The path and the comment of every value in values.yaml that has one."""
    path: list[str] = []
    comment = ""
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip().removeprefix("# -- ")
        elif key := _KEY.match(line):
            path[len(key[1]) // 2 :] = [key[2]]
            if comment:
                yield tuple(path), comment
            comment = ""


def readme_text() -> str:
    """The chart's README with the current table."""
    return page_with(README, "values", values_table())


def model_routes() -> set[str]:
    """Every route that asks a model, the plugins' too."""
    operations = dict(OPERATIONS)
    for kind in plugin_types().values():
        operations |= kind.operations
    return {path for path, operation in operations.items() if operation is not None}


def routes_text() -> str:
    """The routes that an InferencePool may get."""
    routes = sorted(model_routes())
    groups = {
        "parsed": [path for path in routes if path.endswith(_PARSED)],
        "others": [path for path in routes if not path.endswith(_PARSED)],
    }
    head = (
        "# By `make generate`: routes that ask a model, first those whose bodies a picker reads.\n"
    )
    return head + yaml.safe_dump(groups, sort_keys=False)


def _stripped(schema: Any) -> Any:
    """The schema without pydantic's titles, defaults and format of paths."""
    if isinstance(schema, list):
        return [_stripped(child) for child in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, child in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _stripped(entry) for name, entry in child.items()}
        elif key in ("enum", "const", "required"):
            kept[key] = child
        elif key not in ("title", "default") and (key, child) != ("format", "path"):
            kept[key] = _stripped(child)
    return kept
