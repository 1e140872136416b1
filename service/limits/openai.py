"""OpenAI's request bodies as vLLM's own models get them: known fields, within their caps.

Default deny: a field that is not listed is refused by name, so that no engine parameter reaches the
engine unexamined. Values are checked for size here and for meaning by vLLM's own models.
"""

from collections.abc import Mapping
from typing import Any

from service.engine.text_size import size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.fields import Accepted, Fields, take
from service.limits.messages import check_messages, with_refusal
from service.limits.openai_fields import HINTS, NO_OPS, REFUSED
from service.limits.prompts import count_prompts
from service.limits.shape import Shape
from service.limits.structure import check_choice, check_regex, check_schema, check_schemas
from service.limits.values import (
    check_count,
    check_integers,
    check_length,
    check_model,
    check_positive,
    check_repetition_penalty,
    check_stops,
    check_template_kwargs,
    check_texts,
    check_type,
)
from service.quoting import quote
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


def accept(body: Mapping[str, Any], shape: Shape, limits: LimitSettings, context: int) -> Accepted:
    """Take over the fields of a body that a route reads, by its shape, once they are checked.

    Nulls, hints and values that change nothing are left out, unknown fields too if the settings say
    so; `max_tokens` above the model's context, in tokens, becomes the context. Raises
    InvalidRequest for the first field that is unknown, not served, missing or over its cap.
    """
    accepted = take(body, Fields(shape, HINTS, NO_OPS, REFUSED), limits)
    read = accepted.body
    check_body(read, shape, limits)
    if "messages" in shape and limits.default_max_tokens and not read.keys() & {*_TOKENS}:
        read["max_tokens"] = limits.default_max_tokens
    _settle(read, context)
    return accepted


def _settle(read: dict[str, Any], context: int) -> None:
    """Change the fields of a checked body into forms that vLLM's models take."""
    for name in _TOKENS:
        if name in read:
            read[name] = min(read[name], context)
    if "messages" in read:
        read["messages"] = [with_refusal(message) for message in read["messages"]]
    chosen = read.get("response_format", {})
    for key in ("schema", "value"):
        if key in chosen:  # llama.cpp and others, and huggingface_hub, write a schema so
            named = {"name": "answer", "schema": chosen[key]}
            read["response_format"] = {"type": "json_schema", "json_schema": named}


def check_body(body: Mapping[str, Any], shape: Shape, limits: LimitSettings) -> None:
    """Raise InvalidRequest for the first field that is missing or over its cap."""
    check_model(body.get("model"))
    for name, (least, cap) in _COUNTS.items():
        if name in body:
            check_count(body[name], least, getattr(limits, cap), name)
    for name in _TOKENS:
        check_type(body.get(name), int, name, "an integer")
    check_positive(body.get("max_completion_tokens"), "max_completion_tokens")
    check_repetition_penalty(body.get("repetition_penalty"))
    if "messages" in shape:
        check_type(body.get("logprobs"), bool, "logprobs", "true or false")
        check_messages(body)
    else:
        check_type(body.get("logprobs"), int, "logprobs", "an integer")
    for name, cap in _LENGTHS.items():
        if name in body:
            check_length(body[name], getattr(limits, cap), name)
    for name, value in body.items():
        if name != "prompt":  # its tokens are checked against the vocabulary
            check_integers(value, name)
    for name in ("stop", "bad_words"):
        check_texts(body.get(name), limits.stop_bytes, name)
    _check_bad_words(body.get("bad_words"), limits.bad_words_bytes)
    check_stops(body.get("stop"), "stop")
    check_template_kwargs(body.get("chat_template_kwargs"))
    _check_prompts(body, limits)
    _check_response_format(body.get("response_format"), limits)
    check_structured_outputs(body.get("structured_outputs"), limits)
    _check_tools(body.get("tools"), limits)


def _check_bad_words(words: Any, limit: int) -> None:
    """Raise for words of so many tokens that vLLM's worker might have no room, and would end."""
    size = sum(
        size_of(word)
        for word in (words if isinstance(words, list) else ())
        if isinstance(word, str)
    )
    if size > limit:
        raise InvalidRequest(
            f"bad_words: at most {limit} bytes together, got {size}", param="bad_words"
        )


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


def check_structured_outputs(value: Any, limits: LimitSettings) -> None:
    """Raise for a value that is not one of vLLM's structures, or over a cap."""
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
    # Where calls cannot be read, vLLM never sees the tools and would not refuse these.
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest(f"tools: must be a list, got {quote(tools)}", param="tools")
    for index, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            message = f"tools[{index}]: must be an object, got {quote(tool)}"
            raise InvalidRequest(message, param="tools")
        function = tool.get("function")
        parameters = function.get("parameters") if isinstance(function, dict) else None
        if parameters is not None:
            schemas[f"tools[{index}].function.parameters"] = parameters
    check_schemas(schemas, limits.tools_bytes, limits, "tools")
