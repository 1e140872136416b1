"""The routes of docs/api.md by the models: fields (of others' APIs names), answers, examples."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI

from service.routes import classify, encoders, generate, models, openai, tokenize
from service.routes.documentation import examples
from service.runtime.parts import plugin_types
from tools.markdown_pages import item, page_with

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
Schema = Mapping[str, Any]

_GROUPS = {
    "generation": ("#generate", ""),
    "classification": ("classification.md", ""),
    "decisions": ("typed-decisions.md", ""),
    "encoders": ("encoders.md", ""),
    "text-embeddings-inference": ("encoders.md#text-embeddings-inference", "TEI's"),
    "openai": ("#openais-api", "OpenAI's and vLLM's"),
    "anthropic": ("#anthropics-api", "Anthropic's"),
    "batches": ("batches.md", "OpenAI's"),
    "tokenization": ("", ""),
    "adapters": ("#feedback", ""),
    "models": ("", ""),
    "usage": ("howto/tenants.md#usage", ""),
    "health": ("", ""),
}
"""The groups of routes: the place that says more, and who describes the fields if others do."""
_BASE, _MODELS = "smollm2-135m-instruct", {"A tool": "tools"}
"""The examples' model, and others by an example's title."""


class Operation(NamedTuple):
    """An operation, whose paths differ in nothing else, and the schema of its body."""

    group: str
    named: str
    purpose: str
    told: Schema
    body: Schema | None


def page() -> str:
    """The page with the current reference."""
    return page_with(PAGE, "routes", "\n".join(reference()).strip())


def reference() -> Iterator[str]:
    """The lines of the reference: routes with a body, then all others."""
    app = FastAPI()
    core = [each.router for each in (generate, classify, encoders, openai, tokenize, models)]
    plugins = [router for kind in plugin_types().values() for router in kind.routers]
    for router in [*core, tokenize.decoding, *plugins]:
        app.include_router(router)
    document = app.openapi()
    groups = [_operations(document["paths"], group) for group in _GROUPS]
    for operations in groups:
        yield from _described([e for e in operations if e.body], document["components"]["schemas"])
    yield "### Without a body\n"
    for operations in groups:
        yield from (item(f"{e.named}: {e.purpose}") for e in operations if not e.body)


def _operations(paths: Schema, group: str) -> list[Operation]:
    """A group's operations; the first one links to more."""
    found: dict[str, Operation] = {}
    for path, methods in sorted(paths.items(), key=lambda each: "/v1" not in each[0]):
        for method, told in methods.items():
            if told.get("tags", ["models"]) != [group]:
                continue
            content = told.get("requestBody", {}).get("content", {})
            body = next((each["schema"] for each in content.values()), None)
            purpose = " ".join(told["description"].partition("\n\n")[0].split())
            if _GROUPS[group][0] and not found:
                purpose += f" [More]({_GROUPS[group][0]})."
            new = Operation(group, f"`{method.upper()} {path}`", purpose, told, body)
            old = found.get(key := f"{told['description']} {body}")
            found[key] = old._replace(named=f"{old.named}, {new.named}") if old else new
    return list(found.values())


def _described(operations: list[Operation], schemas: Schema) -> Iterator[str]:
    """A group's operations: their fields, those that three bodies share once, and examples."""
    first: dict[str, Operation] = {}
    for each in operations:
        first.setdefault(json.dumps(each.body), each)
    fields = {body: _fields(each, schemas) for body, each in first.items()}
    counts = Counter(line for lines in fields.values() for line in lines)
    shared = [line for line in counts if counts[line] > 2]
    readers = [body for body in fields if shared and {*shared} <= {*fields[body]}]
    for each in operations:
        body = json.dumps(each.body)
        yield f"### {each.named}\n\n{each.purpose}\n"
        if each is not first[body]:
            yield f"Its body is that of {first[body].named}.\n"
        else:
            own = [line for line in fields[body] if line not in shared or body not in readers]
            others = [first[other].named for other in readers if other != body]
            yield _listed(each.group, "Fields", own)
            if body in readers[:1]:
                yield _listed(each.group, f"Shared with {', '.join(others)}", shared)
            elif body in readers:
                yield f"And the fields that it shares with {others[0]}.\n"
        if not _GROUPS[each.group][1]:
            answer = each.told["responses"]["200"]["content"]["application/json"]["schema"]
            names = (f"`{name}`" for name in _resolved(answer, schemas)["properties"])
            yield f"The answer has {', '.join(names)}.\n"
        yield from _commands(each)


def _listed(group: str, title: str, lines: list[str]) -> str:
    """Fields as a list, or in one sentence where others describe them."""
    if whose := _GROUPS[group][1]:
        return item(f"{title}, {whose}: {', '.join(lines)}") + "\n"
    return "\n".join([f"{title}:", "", *map(item, lines), ""])


def _fields(operation: Operation, schemas: Schema) -> list[str]:
    """The fields of a body: each with type, bounds, default and meaning, or its name alone."""
    body = _resolved(operation.body or {}, schemas)
    lines = []
    for name, field in body["properties"].items():
        said, default = field.get("description", ""), field.get("default")
        fixed = "'const'" in str(field) or said.startswith("Not read")
        if fixed or name in ("timeout_ms", "service_tier"):
            continue
        facts = [_type(field, schemas)]
        if name in body.get("required", ()):
            facts.append("required")
        elif default not in (None, False, ""):
            facts.append(f"default {json.dumps(default)}")
        meaning = f" ({', '.join(facts)})" + (f": {said}" if said else "")
        lines.append(f"`{name}`" + ("" if _GROUPS[operation.group][1] else meaning))
    return lines


def _type(field: Schema, schemas: Schema) -> str:
    """A schema in few words; of several kinds of objects all fields together."""
    kinds = [_resolved(field, schemas)]
    while any("anyOf" in kind or "oneOf" in kind for kind in kinds):
        inner = [kind.get("anyOf") or kind.get("oneOf") or [kind] for kind in kinds]
        kinds = [_resolved(each, schemas) for some in inner for each in some]
    names = ", ".join(dict.fromkeys(f"`{n}`" for kind in kinds for n in kind.get("properties", ())))
    texts = [_kind(kind, names, schemas) for kind in kinds if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(texts))


def _kind(kind: Schema, names: str, schemas: Schema) -> str:
    if "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind["enum"])
    match kind.get("type", "JSON"):
        case "array":
            bounds = _bounds(kind.get("minItems"), kind.get("maxItems"))
            return f"list of {bounds}{_type(kind['items'], schemas)}"
        case "object":
            return f"object of {names}" if names else "object"
        case "string":
            return f"text to {kind['maxLength']}" if "maxLength" in kind else "text"
        case other:
            least = kind.get("minimum", kind.get("exclusiveMinimum"))
            return f"{other} {_bounds(least, kind.get('maximum'))}".strip()


def _bounds(least: float | None, most: float | None) -> str:
    return "" if least is None or most is None or most >= 1 << 20 else f"{least:g} to {most:g} "


def _resolved(schema: Schema, schemas: Schema) -> Schema:
    name: str = schema.get("$ref", "").rpartition("/")[2]
    return schemas[name] if name else schema


def _commands(operation: Operation) -> Iterator[str]:
    """The examples of /docs; those of decisions stand in their own page."""
    path = operation.named.split("`")[1].partition(" ")[2]
    shown = path.startswith("/v1") and operation.group != "decisions"
    for title, body in examples().get(path, {}).items() if shown else ():
        asked = {"model": _MODELS.get(title, _BASE), **body}
        lines = ",\n".join(f'  "{name}": {_folded(value, 2)}' for name, value in asked.items())
        curl = f"curl {'-sSN' if body.get('stream') else '-sS'} http://127.0.0.1:8000{path}"
        yield f"```sh\n{curl} -H 'Content-Type: application/json' -d '{{\n{lines}\n}}'\n```\n"


def _folded(value: Any, indent: int) -> str:
    """JSON on one line where it fits, else with a line for each entry."""
    text = json.dumps(value)
    if len(text) <= 110 - indent or not isinstance(value, dict | list):
        return text
    named = value.items() if isinstance(value, dict) else (("", each) for each in value)
    entries = [(f'"{n}": ' if n else "") + _folded(each, indent + 2) for n, each in named]
    within = f"\n{' ' * (indent + 2)}"
    return text[0] + within + f",{within}".join(entries) + f"\n{' ' * indent}{text[-1]}"
