"""Bodies of Anthropic's Messages as vLLM's own models get them: known fields, within their caps."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest
from service.limits.anthropic_fields import HINTS, NO_OPS, REFUSED
from service.limits.fields import Accepted, Fields, take
from service.limits.messages import check_entries
from service.limits.shape import Shape
from service.limits.structure import check_schema, check_schemas
from service.limits.values import (
    check_integers,
    check_length,
    check_model,
    check_stops,
    check_template_kwargs,
    check_texts,
    check_type,
)
from service.quoting import quote
from service.settings.limits import LimitSettings


def accept_messages(
    body: Mapping[str, Any], shape: Shape, limits: LimitSettings, context: int
) -> Accepted:
    """Take over the fields of a body that a route reads, by its shape, once they are checked.

    `max_tokens` above the model's context, in tokens, becomes the context. Raises InvalidRequest
    for the first field that is unknown, not served, missing or over its cap.
    """
    accepted = take(body, Fields(shape, HINTS, NO_OPS, REFUSED), limits)
    read = accepted.body
    _check(read, limits)
    if "max_tokens" in read:
        read["max_tokens"] = min(read["max_tokens"], context)
    return accepted


def _check(body: Mapping[str, Any], limits: LimitSettings) -> None:
    check_model(body.get("model"))
    check_entries(body.get("messages"), limits.messages, "messages", ("content",))
    if isinstance(system := body.get("system"), list):
        check_entries(system, limits.messages, "system", ())
    check_type(body.get("max_tokens"), int, "max_tokens", "an integer")
    check_length(body.get("stop_sequences"), limits.stop, "stop_sequences")
    check_length(body.get("tools"), limits.tools, "tools")
    for name, value in body.items():
        check_integers(value, name)
    check_texts(body.get("stop_sequences"), limits.stop_bytes, "stop_sequences")
    check_type(body.get("stop_sequences"), list, "stop_sequences", "a list")
    check_stops(body.get("stop_sequences"), "stop_sequences")
    check_template_kwargs(body.get("chat_template_kwargs"))
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict):
        check_schema(wanted.get("schema"), limits, "output_config.format.schema")
    _check_tools(body.get("tools"), body.get("tool_choice"), limits)


def _check_tools(tools: Any, choice: Any, limits: LimitSettings) -> None:
    schemas: dict[str, Any] = {}
    names = []
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            message = f"tools[{index}]: must be an object, got {quote(tool)}"
            raise InvalidRequest(message, param="tools")
        schemas[f"tools[{index}].input_schema"] = tool.get("input_schema")
        names.append(tool.get("name"))
    check_schemas(schemas, limits.tools_bytes, limits, "tools")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "any" and not names:
        raise InvalidRequest("tool_choice: any needs tools", param="tool_choice")
    if kind == "tool" and (name := choice.get("name")) not in names:
        message = f"tool_choice.name: must be one of the tools, got {quote(name)}"
        raise InvalidRequest(message, param="tool_choice")
