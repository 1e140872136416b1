"""OpenAI's request bodies as vLLM's own models get them: known fields, within their caps.

Default deny: a field that is not listed is refused by name, so that no engine parameter reaches the
engine unexamined. Values are checked for size here and for meaning by vLLM's own models.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.messages import check_messages
from service.limits.openai_fields import HINTS, NO_OPS, REFUSED
from service.limits.prompts import count_prompts
from service.limits.shape import Shape, pruned, unread
from service.limits.structure import check_choice, check_regex, check_schema, check_schemas
from service.quoting import nearest, quote
from service.settings.limits import LimitSettings

_COUNTS = {
    "n": (1, "n"),
    "logprobs": (0, "logprobs"),
    "top_logprobs": (0, "logprobs"),
    "prompt_logprobs": (0, "logprobs"),
}
"""The smallest value of a field, and the setting that caps it."""
_TOKENS = ("max_tokens", "max_completion_tokens")
_LENGTHS = {
    "stop": "stop",
    "stop_token_ids": "stop_token_ids",
    "bad_words": "bad_words",
    "logit_bias": "logit_bias",
    "allowed_token_ids": "allowed_token_ids",
    "messages": "messages",
    "documents": "documents",
    "tools": "tools",
}
_STRUCTURES = {"json", "regex", "choice", "json_object"}
_FORMATS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type"}),
    "json_object": frozenset({"type", "schema", "value"}),
    "json_schema": frozenset({"type", "json_schema"}),
}
"""The keys that a response format of each type reads."""
_TEMPLATE_TEXT_BYTES = 256


@dataclass(frozen=True, slots=True)
class Accepted:
    """A body for vLLM's models, and the places of unknown fields that it was sent with."""

    body: dict[str, Any]
    ignored: tuple[str, ...]


def accept(body: Mapping[str, Any], shape: Shape, limits: LimitSettings, context: int) -> Accepted:
    """Take over the fields of a body that a route reads, by its shape, once they are checked.

    Nulls, hints and values that change nothing are left out, unknown fields too if the settings say
    so; `max_tokens` above the model's context, in tokens, becomes the context. Raises
    InvalidRequest for the first field that is unknown, not served, missing or over its cap.
    """
    if "chat_template_kwargs" in shape:
        shape = {**shape, "chat_template_kwargs": dict.fromkeys(limits.chat_template_kwargs)}
    asked = {name: value for name, value in body.items() if not _asks_nothing(name, value, shape)}
    unknown = list(unread(asked, shape, HINTS))
    if unknown and limits.unknown_fields == "refuse":
        place, known = unknown[0]
        name = place.rpartition(".")[2]
        message = f"{place}: not a field of this route{nearest(name, known)}"
        raise UnsupportedFeature(message, param=place)
    read = pruned(asked, shape)
    check_body(read, shape, limits)
    if "messages" in shape and limits.default_max_tokens and not read.keys() & {*_TOKENS}:
        read["max_tokens"] = limits.default_max_tokens
    _settle(read, context)
    ignored = sorted({re.sub(r"\[\d+\]", "[]", place) for place, _ in unknown})
    return Accepted(read, tuple(ignored))


def _asks_nothing(name: str, value: Any, shape: Shape) -> bool:
    """True for a top-level field to leave out; raises for a known one that is not served."""
    if value is None or name in HINTS:
        return True
    no_op = NO_OPS.get(name, ())
    if value in no_op and (name not in shape or value == []):
        return True
    if name not in shape and (reason := REFUSED.get(name)) is not None:
        only = f"; the only value is {json.dumps(no_op[0])}, got {quote(value)}" if no_op else ""
        raise UnsupportedFeature(f"{name}: not served, {reason}{only}", param=name)
    return False


def _settle(read: dict[str, Any], context: int) -> None:
    """Write what a checked body asks for as vLLM's models take it."""
    for name in _TOKENS:
        if name in read:
            read[name] = min(read[name], context)
    chosen = read.get("response_format", {})
    for key in ("schema", "value"):
        if key in chosen:  # llama.cpp and others, and huggingface_hub, write a schema so
            named = {"name": "answer", "schema": chosen[key]}
            read["response_format"] = {"type": "json_schema", "json_schema": named}


def check_body(body: Mapping[str, Any], shape: Shape, limits: LimitSettings) -> None:
    """Raise InvalidRequest for the first field that is missing or over its cap."""
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(
            f"model: required, a string, got {quote(body.get('model'))}", param="model"
        )
    for name, (least, cap) in _COUNTS.items():
        _check_count(body.get(name), least, getattr(limits, cap), name)
    for name in _TOKENS:
        _check_type(body.get(name), int, name, "an integer")
    if "messages" in shape:
        _check_type(body.get("logprobs"), bool, "logprobs", "true or false")
        check_messages(body)
    else:
        _check_type(body.get("logprobs"), int, "logprobs", "an integer")
    for name, cap in _LENGTHS.items():
        _check_length(body.get(name), getattr(limits, cap), name)
    for name, value in body.items():
        if name != "prompt":  # its tokens are checked against the vocabulary
            _check_integers(value, name)
    for name in ("stop", "bad_words"):
        entries = body.get(name)
        for entry in entries if isinstance(entries, list) else [entries]:
            _check_text(entry, limits.stop_bytes, name)
    _check_bad_words(body.get("bad_words"), limits.bad_words_bytes)
    _check_stop(body.get("stop"))
    _check_template_kwargs(body.get("chat_template_kwargs"))
    _check_prompts(body, limits)
    _check_response_format(body.get("response_format"), limits)
    _check_structured_outputs(body.get("structured_outputs"), limits)
    _check_tools(body.get("tools"), limits)


def _check_count(value: Any, least: int, limit: int, name: str) -> None:
    if isinstance(value, bool) or value is None:
        return
    if not isinstance(value, int) or not least <= value <= limit:
        raise InvalidRequest(f"{name}: must be {least}..{limit}, got {quote(value)}", param=name)


def _check_type(value: Any, kind: type, name: str, wanted: str) -> None:
    """Raise unless it is of exactly this type or absent: vLLM would also read "16" and 16.0."""
    if value is not None and type(value) is not kind:
        raise InvalidRequest(f"{name}: must be {wanted}, got {quote(value)}", param=name)


def _check_length(value: Any, limit: int, name: str) -> None:
    if isinstance(value, list | dict) and len(value) > limit:
        raise InvalidRequest(f"{name}: at most {limit} entries, got {len(value)}", param=name)


def _check_integers(value: Any, name: str) -> None:
    """Raise for an integer that the message to the engine cannot hold (msgpack: 64 bits)."""
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, int) and entry.bit_length() > 63:
            raise InvalidRequest(
                f"{name}: an integer must fit into 64 bits, got {quote(entry)}", param=name
            )


def _check_bad_words(words: Any, limit: int) -> None:
    """Raise for words whose tokens vLLM's worker might have no room for, which would end it."""
    size = sum(
        len(word.encode(errors="surrogatepass"))
        for word in (words if isinstance(words, list) else ())
        if isinstance(word, str)
    )
    if size > limit:
        raise InvalidRequest(
            f"bad_words: at most {limit} bytes together, got {size}", param="bad_words"
        )


def _check_text(value: Any, limit: int, name: str) -> None:
    if isinstance(value, str) and (size := len(value.encode(errors="surrogatepass"))) > limit:
        raise InvalidRequest(f"{name}: at most {limit} bytes, got {size}", param=name)


def _check_stop(stop: Any) -> None:
    """Raise for stops of a wrong kind, which vLLM's model is not shown: it takes no more than 4."""
    texts = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if wrong := [each for each in texts if not isinstance(each, str) or not each]:
        raise InvalidRequest(
            f"stop: must be a text or a list of texts, none empty, got {quote(wrong[0])}",
            param="stop",
        )


def _check_template_kwargs(kwargs: Any) -> None:
    """Raise for values that a template could spend time on: it gets switches and short texts."""
    name = "chat_template_kwargs"
    if kwargs is not None and not isinstance(kwargs, dict):
        raise InvalidRequest(f"{name}: must be an object, got {quote(kwargs)}", param=name)
    for key, value in (kwargs or {}).items():
        where = f"{name}.{key}"
        if not isinstance(value, bool | int | float | str):
            message = f"{where}: must be a text, a number, true or false, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        _check_integers(value, where)
        _check_text(value, _TEMPLATE_TEXT_BYTES, where)


def _check_prompts(body: Mapping[str, Any], limits: LimitSettings) -> None:
    prompt = body.get("prompt")
    if prompt in ("", []):
        raise InvalidRequest("prompt: must not be empty", param="prompt")
    prompts = count_prompts(prompt)
    if prompts > limits.prompts:
        raise InvalidRequest(
            f"prompt: at most {limits.prompts} prompts, got {prompts}", param="prompt"
        )


def _check_response_format(value: Any, limits: LimitSettings) -> None:
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise UnsupportedFeature(
            f"response_format.type: must be text, json_object or json_schema, got {quote(kind)}",
            param="response_format",
        )
    if beyond := value.keys() - _FORMATS[kind]:
        name = f"response_format.{min(beyond)}"
        raise UnsupportedFeature(f"{name}: not read with type {kind}", param=name)
    if kind == "json_schema":
        named = value.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else named
        check_schema(schema, limits, "response_format.json_schema.schema")
    schemas = [key for key in ("schema", "value") if key in value]
    if len(schemas) > 1:
        raise InvalidRequest(
            "response_format: must hold one of schema and value, got both", param="response_format"
        )
    for key in schemas:
        check_schema(value[key], limits, f"response_format.{key}")


def _check_structured_outputs(value: Any, limits: LimitSettings) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or not value.keys() <= _STRUCTURES or len(value) != 1:
        raise UnsupportedFeature(
            f"structured_outputs: must hold one of {sorted(_STRUCTURES)}, got {quote(value)}",
            param="structured_outputs",
        )
    if "json" in value:
        check_schema(value["json"], limits, "structured_outputs.json")
    if "regex" in value:
        check_regex(value["regex"], limits, "structured_outputs.regex")
    if "choice" in value:
        check_choice(value["choice"], limits, "structured_outputs.choice")


def _check_tools(tools: Any, limits: LimitSettings) -> None:
    schemas: dict[str, Any] = {}
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        parameters = function.get("parameters") if isinstance(function, dict) else None
        if parameters is not None:
            schemas[f"tools[{index}].function.parameters"] = parameters
    check_schemas(schemas, limits.tools_bytes, limits, "tools")
