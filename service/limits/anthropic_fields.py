"""Fields of the bodies of Anthropic's Messages: read, without effect, or refused for a reason.

tests/engine/test_messages.py compares the tables with vLLM's request models and Anthropic's SDK.
"""

from collections.abc import Mapping
from typing import Any

from service.limits.shape import Kinds, Shape

_TEXT = "prompts and answers are text"

_BLOCK: Shape = dict.fromkeys(("type", "text"))
_TEXTS = Kinds({"text": _BLOCK}, _TEXT)
_BLOCKS = Kinds(
    {
        "text": _BLOCK,
        "tool_use": dict.fromkeys(("type", "id", "name", "input")),
        "tool_result": {
            **dict.fromkeys(("type", "tool_use_id", "is_error")),
            "content": _TEXTS,
        },
        "thinking": dict.fromkeys(("type", "thinking", "signature")),
        "redacted_thinking": dict.fromkeys(("type", "data")),
    },
    _TEXT,
)

COUNT: Shape = {
    "model": None,
    "messages": {"role": None, "content": _BLOCKS},
    "system": _TEXTS,
    "thinking": dict.fromkeys(("type", "budget_tokens", "display")),
    "output_config": {"effort": None, "format": dict.fromkeys(("type", "schema"))},
    "tools": Kinds(
        {"custom": dict.fromkeys("type name description input_schema strict".split())},
        "the service runs no tools of its own; describe yours by their input_schema",
        usual="custom",
    ),
    "tool_choice": dict.fromkeys(("type", "name", "disable_parallel_tool_use")),
    "chat_template_kwargs": {},
}
"""The fields of a count of tokens; the settings say which `chat_template_kwargs` are read."""

MESSAGE: Shape = {
    **COUNT,
    **dict.fromkeys("max_tokens stop_sequences stream temperature top_k top_p".split()),
}
"""The fields of a message."""

HINTS = frozenset(
    """cache_control caller citations diagnostics eager_input_streaming input_examples metadata
    service_tier""".split()
)
"""Keys that ask for nothing which changes an answer here; dropped at every level."""

NO_OPS: Mapping[str, tuple[Any, ...]] = {
    "betas": ([],),
    "context_management": (
        {"edits": []},
        {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    ),
    "fallbacks": ([],),
    "mcp_servers": ([],),
    "speed": ("standard",),
    "stop_sequences": ([],),
    "system": ([],),
    "tools": ([],),
}
"""Values with which a field asks for what happens without it; the field is dropped then."""

_ENGINE = "it is a parameter of the engine's operators"
_ANTHROPIC = "it is a feature of Anthropic's own servers"

REFUSED: Mapping[str, str] = {
    "betas": "send the header anthropic-beta",
    "billing_policy": _ANTHROPIC,
    "cache_salt": "each tenant has its own",
    "compaction": "send what shall be read",
    "container": "the service runs no tools of its own",
    "context_management": "send what shall be read",
    "ec_transfer_params": _ENGINE,
    "fallback_credit_token": _ANTHROPIC,
    "fallbacks": "a request has one model",
    "inference_geo": "the service runs in one place",
    "kv_transfer_params": _ENGINE,
    "mcp_servers": "the service runs no tools of its own",
    "mm_payload": _TEXT,
    "output_format": "set output_config.format",
    "return_mm_kwargs": _TEXT,
    "speed": "all requests run at one speed",
    "thread": "no conversation is kept; send all of its messages",
    "user_profile_id": _ANTHROPIC,
    "vllm_xargs": _ENGINE,
    "watermarking": _ENGINE,
    "workspace_id": _ANTHROPIC,
}
"""Known fields that are not served, each with the reason or with what to use instead."""
