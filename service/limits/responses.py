"""Bodies of OpenAI's Responses as vLLM's own model gets them: known fields, within their caps."""

from collections.abc import Mapping
from typing import Any, NoReturn

from service.errors import InvalidRequest
from service.limits.fields import Accepted, Fields, take
from service.limits.logprobs import check_logprobs
from service.limits.messages import check_arguments, check_entries
from service.limits.openai import check_structured_outputs
from service.limits.responses_fields import HINTS, NO_OPS, REFUSED, RESPONSE
from service.limits.structure import check_schema, check_schemas
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

_FIELDS = Fields(RESPONSE, HINTS, NO_OPS, REFUSED)
_LOGPROBS = "message.output_text.logprobs"
_METADATA = 16
_INCLUDED = 16
_PARTS = ("content", "output", "summary")
_ROLES = ("user", "system", "developer", "assistant")
_NEEDED: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "message": (("role",), "content"),
    "function_call": (("call_id", "name", "arguments"), None),
    "function_call_output": (("call_id",), "output"),
    "reasoning": ((), None),
}
"""Keys that hold text, and the key that holds text or parts, by the type of an item."""


def accept_response(body: Mapping[str, Any], limits: LimitSettings, context: int) -> Accepted:
    """Take over the fields of a body that are read, once they are checked.

    `max_output_tokens` above the model's context, in tokens, becomes the context. What is made is
    never kept. Raises InvalidRequest for the first field that is unknown, not served, missing or
    over its cap.
    """
    accepted = take(body, _FIELDS, limits)
    read = accepted.body
    _check(read, limits)
    longest = read.get("max_output_tokens", limits.default_max_tokens)
    if longest is not None:
        read["max_output_tokens"] = min(longest, context)
    if _LOGPROBS in read.get("include", []):
        asked = {"logprobs": True, "top_logprobs": read.get("top_logprobs")}
        # The last event of a stream repeats the whole answer.
        check_logprobs(asked | {"max_tokens": longest}, context, limits)
    if isinstance(read["input"], list):
        read["input"] = [_whole(item) for item in read["input"]]
    read["store"] = False
    return accepted


def _check(body: Mapping[str, Any], limits: LimitSettings) -> None:
    check_model(body.get("model"))
    check_type(body.get("max_output_tokens"), int, "max_output_tokens", "an integer")
    check_positive(body.get("max_output_tokens"), "max_output_tokens")
    check_repetition_penalty(body.get("repetition_penalty"))
    check_count(body.get("top_logprobs"), 0, limits.logprobs, "top_logprobs")
    _check_input(body.get("input"), limits)
    for name, limit in (
        *(("stop", limits.stop), ("stop_token_ids", limits.stop_token_ids)),
        *(("logit_bias", limits.logit_bias), ("tools", limits.tools)),
        *(("metadata", _METADATA), ("include", _INCLUDED)),
    ):
        check_length(body.get(name), limit, name)
    check_type(body.get("include"), list, "include", "a list")
    for name, value in body.items():
        check_integers(value, name)
    check_texts(body.get("stop"), limits.stop_bytes, "stop")
    check_stops(body.get("stop"), "stop")
    check_template_kwargs(body.get("chat_template_kwargs"))
    check_structured_outputs(body.get("structured_outputs"), limits)
    text = body.get("text")
    kind = text.get("format") if isinstance(text, dict) else None
    if isinstance(kind, dict) and kind.get("type") == "json_schema":
        check_schema(kind.get("schema"), limits, "text.format.schema")
    schemas = {
        f"tools[{index}].parameters": tool["parameters"]
        for index, tool in enumerate(_objects(body.get("tools")))
        if "parameters" in tool
    }
    check_schemas(schemas, limits.tools_bytes, limits, "tools")


def _check_input(value: Any, limits: LimitSettings) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        given = quote(value)
        raise InvalidRequest(f"input: required, a text or a list, got {given}", param="input")
    check_entries(value, limits.messages, "input", _PARTS)
    for index, item in enumerate(value):
        _check_item(item, f"input[{index}]")
    calls = ((f"input[{n}]", item) for n, item in enumerate(value) if "arguments" in item)
    check_arguments(((f"{where}.arguments", item["arguments"]) for where, item in calls), "input")


def _check_item(item: Mapping[str, Any], where: str) -> None:
    """Raise for an item that vLLM would not read: its own check tries thirty types for each."""
    needed, held = _NEEDED[item.get("type", "message")]
    for key in (*needed, "id", "status", "encrypted_content"):
        if (key in needed or key in item) and not isinstance(item.get(key), str):
            _refuse(item, where, key, "must be a text")
    if "role" in needed and item["role"] not in _ROLES:
        _refuse(item, where, "role", f"must be {' or '.join(_ROLES)}")
    if held is not None and not isinstance(item.get(held), str | list):
        _refuse(item, where, held, "must be a text or a list")
    for key in _PARTS:
        parts = item.get(key, [])
        if key != held and not isinstance(parts, list):
            _refuse(item, where, key, "must be a list")
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            if not isinstance(part, dict) or not isinstance(_text(part), str):
                message = f"{where}.{key}[{number}]: must hold text, got {quote(part)}"
                raise InvalidRequest(message, param="input")


def _refuse(item: Mapping[str, Any], where: str, key: str, wanted: str) -> NoReturn:
    message = f"{where}.{key}: {wanted}, got {quote(item.get(key))}"
    raise InvalidRequest(message, param="input")


def _whole(item: dict[str, Any]) -> dict[str, Any]:
    """An item of an input as vLLM reads it to its end.

    vLLM takes the first part only of what a model has said or thought, so the parts are joined.
    """
    if item.get("type") == "reasoning":
        thought = _joined(item.get("content")) or _joined(item.get("summary"))
        content = [{"type": "reasoning_text", "text": thought}]
        return item | {"content": content, "summary": []}
    if item.get("role") == "assistant" and isinstance(item.get("content"), list):
        said = {"type": "output_text", "text": _joined(item["content"])}
        return item | {"type": "message", "content": [said]}
    return item


def _joined(parts: Any) -> str:
    return "".join(_text(part) for part in _objects(parts))


def _text(part: Mapping[str, Any]) -> Any:
    return part.get("refusal" if part.get("type") == "refusal" else "text")


def _objects(value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
