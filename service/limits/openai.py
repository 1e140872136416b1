"""Fields of OpenAI's request bodies that are served, and their caps.

Default deny: a field that is not listed is refused by name, so that no engine parameter reaches the
engine unexamined. Values are checked for size here and for meaning by vLLM's own models.
"""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.messages import check_messages
from service.limits.prompts import count_prompts
from service.limits.structure import check_choice, check_regex, check_schema, check_schemas
from service.quoting import nearest, quote, quote_name
from service.settings.tree import LimitSettings

_SAMPLING = frozenset(
    """model max_tokens n temperature top_p top_k min_p seed stop stop_token_ids presence_penalty
    frequency_penalty repetition_penalty logit_bias stream stream_options response_format
    structured_outputs min_tokens ignore_eos skip_special_tokens include_stop_str_in_output
    bad_words allowed_token_ids user return_token_ids""".split()
)
_IGNORED = frozenset("metadata store service_tier safety_identifier prompt_cache_key".split())
"""OpenAI fields that have no meaning for this server; accepted without effect."""

CHAT_FIELDS = _SAMPLING | frozenset(
    """messages logprobs top_logprobs max_completion_tokens tools tool_choice parallel_tool_calls
    reasoning_effort""".split()
)
COMPLETION_FIELDS = _SAMPLING | frozenset("prompt echo logprobs suffix".split())

_COUNTS = {
    "n": (1, "n"),
    "logprobs": (0, "logprobs"),
    "top_logprobs": (0, "logprobs"),
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
    "tools": "tools",
}
_STRUCTURES = {"json", "regex", "choice", "json_object"}


def check_body(body: Mapping[str, Any], fields: frozenset[str], limits: LimitSettings) -> None:
    """Raise InvalidRequest for the first field that is unknown, missing or over its cap."""
    known = fields | _IGNORED
    if (name := next((each for each in body if each not in known), None)) is not None:
        raise UnsupportedFeature(
            f"{quote_name(name)}: not a field of this route{nearest(name, fields)}",
            param=quote_name(name),
        )
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(
            f"model: required, a string, got {quote(body.get('model'))}", param="model"
        )
    for name, (least, cap) in _COUNTS.items():
        _check_count(body.get(name), least, getattr(limits, cap), name)
    for name in _TOKENS:
        _check_type(body.get(name), int, name, "an integer")
    if "messages" in fields:
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
    if kind not in ("text", "json_object", "json_schema"):
        raise UnsupportedFeature(
            f"response_format.type: must be text, json_object or json_schema, got {quote(kind)}",
            param="response_format",
        )
    if kind == "json_schema":
        named = value.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else named
        check_schema(schema, limits, "response_format.json_schema.schema")


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
