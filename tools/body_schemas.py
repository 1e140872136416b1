"""The bodies of Responses as JSON schemas, for the service's own description.

The keys come from `service/limits`, which decides what is read; their types come from vLLM's
request models, which check the values. The answers are vLLM's models, too. The service reads the
file instead of these models: to make schemas of them takes half a second.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.limits.responses_fields import RESPONSE
from service.limits.shape import Kinds, Shape
from service.tenants.tenant import Tier

FILE = Path(__file__).parents[1] / "service/api/schemas/handlers.json"

Schema = dict[str, Any]

_SCALARS = frozenset(
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum minLength pattern".split()
)
_KEPT = _SCALARS | {"description", "required", "additionalProperties"}
_ANSWERED: Shape = {
    **dict.fromkeys(
        """id object created_at status incomplete_details model instructions max_output_tokens
        metadata parallel_tool_calls temperature top_p top_logprobs presence_penalty
        frequency_penalty reasoning service_tier store text tools tool_choice truncation
        user""".split()
    ),
    "usage": dict.fromkeys("input_tokens output_tokens total_tokens".split()),
    "output": Kinds(
        {
            "message": {
                **dict.fromkeys("type id role status".split()),
                "content": Kinds({"output_text": dict.fromkeys(("type", "text", "logprobs"))}, ""),
            },
            "function_call": dict.fromkeys("type id call_id name arguments status".split()),
            "reasoning": {
                **dict.fromkeys("type id status".split()),
                "content": dict.fromkeys(("type", "text")),
                "summary": dict.fromkeys(("type", "text")),
            },
        },
        "",
    ),
}
"""Fields of a response; OpenAI's model of it knows the answers of forty tools."""
_TIER: Schema = {
    "type": "string",
    "enum": ["auto", *Tier],
    "description": "`flex` waits for room; `default` is interactive; default the tenant's.",
}
"""A field of every request that is answered; `service/api/tier.py` reads it."""


def text() -> str:
    """The file with the schemas of all bodies."""
    from vllm.entrypoints.openai.responses import protocol as responses

    asked = {
        "ResponseRequest": (responses.ResponsesRequest, RESPONSE, "model input"),
    }
    answered = {
    }
    schemas = {
        name: read(model.model_json_schema(), shape) | {"required": required.split()}
        for name, (model, shape, required) in asked.items()
    }
    for name in asked:
        schemas[name]["properties"]["service_tier"] = _TIER
    schemas["Response"] = read(
        responses.ResponsesResponse.model_json_schema(), _ANSWERED, nulls=True
    )
    schemas |= {name: whole(model.model_json_schema()) for name, model in answered.items()}
    named = {name: {"title": name, **schema} for name, schema in sorted(schemas.items())}
    return json.dumps(named, indent=1) + "\n"


def read(model: Schema, shape: Shape, *, nulls: bool = False) -> Schema:
    """The schema of the keys of a shape, with the types that a model's schema gives them.

    Without `nulls` these are left out: in a request a null asks for nothing.
    """
    return _Source(model.get("$defs", {}), nulls).keys([model], shape)


def whole(model: Schema) -> Schema:
    """A model's schema without references, titles and defaults."""
    schema: Schema = _whole(model, model.get("$defs", {}))
    return schema


@dataclass(frozen=True)
class _Source:
    """Definitions to which a model's schema refers, and whether its nulls are kept."""

    defs: Mapping[str, Schema]
    nulls: bool

    def keys(self, objects: list[Schema], shape: Shape) -> Schema:
        """One schema for objects with the keys of a shape, whose alternatives are these."""
        properties = {}
        for name, inner in shape.items():
            found = [
                each["properties"][name] for each in objects if name in each.get("properties", {})
            ]
            properties[name] = self._typed(found, inner)
            about = [each["description"] for each in found if "description" in each]
            if about:
                properties[name]["description"] = " ".join(about[0].split())
        required = [name for name in shape if _required(name, objects)]
        schema: Schema = {"type": "object", "properties": properties}
        return schema | ({"required": required} if required else {})

    def _variants(self, schemas: Iterable[Schema]) -> Iterator[Schema]:
        """The alternatives of schemas, without references."""
        for schema in schemas:
            if "$ref" in schema:
                yield from self._variants([_target(schema, self.defs)])
            elif inner := schema.get("anyOf", schema.get("oneOf", schema.get("allOf"))):
                yield from self._variants(inner)
            else:
                yield schema

    def _typed(self, schemas: Iterable[Schema], inner: Shape | Kinds | None) -> Schema:
        """One schema for a value whose alternatives are these, as deep as the shape goes."""
        variants = list(self._variants(schemas))
        kinds = [_scalar(each) for each in variants if _is_scalar(each)]
        objects = [each for each in variants if each.get("type") == "object"]
        if isinstance(inner, Kinds):
            kinds += (self._kind(objects, inner, name) for name in inner.shapes if objects)
        elif objects:
            kinds.append(self.keys(objects, inner) if inner else _free(objects))
        lists = [each.get("items", {}) for each in variants if each.get("type") == "array"]
        items = list(self._variants(lists))
        if isinstance(inner, Kinds):
            items = [each for each in items if not _is_scalar(each)]
        if items:
            kinds.append({"type": "array", "items": self._typed(items, inner)})
        if self.nulls and {"type": "null"} in variants:
            kinds.append({"type": "null"})
        return _one_of(kinds)

    def _kind(self, objects: list[Schema], kinds: Kinds, name: str) -> Schema:
        """The schema of objects of one type, from the models of this type where any names it."""
        own = [each for each in objects if name in self._names(each)]
        found = self.keys(own or objects, kinds.shapes[name])
        found["properties"]["type"] = {"type": "string", "enum": [name]}
        required = [key for key in found.get("required", ()) if key != "type"]
        if name != kinds.usual:
            required.insert(0, "type")
        return found | {"required": required} if required else found

    def _names(self, schema: Schema) -> list[str]:
        """The types that objects of a schema may name."""
        return _literals(self._typed([schema.get("properties", {}).get("type", {})], None))


def _required(name: str, objects: list[Schema]) -> bool:
    """True for a key that most alternatives know, if all of these require it.

    vLLM reads a few messages in forms that are not OpenAI's, too.
    """
    known = [each for each in objects if name in each.get("properties", {})]
    required = all(name in each.get("required", ()) for each in known)
    return required and 2 * len(known) > len(objects)


def _free(objects: list[Schema]) -> Schema:
    """The schema of objects of which any key is read; generators take none for no keys at all."""
    values = [each.get("additionalProperties") for each in objects]
    value = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
    return {"type": "object", "additionalProperties": _scalar(value) or True}


def _is_scalar(schema: Schema) -> bool:
    return schema.get("type") in ("string", "integer", "number", "boolean") or "enum" in schema


def _scalar(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key in _SCALARS}


def _one_of(kinds: list[Schema]) -> Schema:
    """These alternatives as one schema, each once and all literals in one list."""
    literals = [literal for each in kinds for literal in _literals(each)]
    others = [each for each in kinds if not _literals(each)]
    if literals and {"type": "string"} not in others:
        others.insert(0, {"type": "string", "enum": list(dict.fromkeys(literals))})
    distinct = list({json.dumps(each): each for each in others}.values())
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct} if distinct else {}


def _literals(schema: Schema) -> list[str]:
    if schema.get("type") != "string":
        return []
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _target(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    return defs[schema["$ref"].rpartition("/")[2]]


def _whole(schema: Any, defs: Mapping[str, Schema]) -> Any:
    if "$ref" in schema:
        return _whole(_target(schema, defs), defs)
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            kept[key] = _whole(schema[key], defs)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in schema:
            kept[key] = [_whole(each, defs) for each in schema[key]]
    if schema.get("type") == "object":
        kept.setdefault("additionalProperties", True)
    if "properties" in schema:
        inner = schema["properties"].items()
        kept["properties"] = {name: _whole(each, defs) for name, each in inner}
    return kept
