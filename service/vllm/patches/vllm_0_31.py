"""vLLM 0.31 ignores `parallel_tool_calls`, and refuses `max_tokens` above what the context leaves.

From 0.32 on a grammar ends after one call if `parallel_tool_calls` is false, and `max_tokens` is
lowered to what the context leaves.
"""

import json
from typing import Any

from vllm.renderers.params import TokenizeParams
from vllm.tool_parsers import structural_tag_registry

UNTIL = "0.32.0"

USES = (
    "replaces vllm.renderers.params:TokenizeParams.max_input_tokens",
    "mirrors vllm.tool_parsers.structural_tag_registry:limit_to_single_tool_call",
)

_LISTS = ("triggered_tags", "token_triggered_tags", "tags_with_separator")
"""Parts of a grammar that repeat calls, and never arguments."""


def lower_max_tokens() -> None:
    """Lower `max_tokens` to what the context leaves, instead of refusing the request."""
    if TokenizeParams(max_total_tokens=2, max_output_tokens=1).max_input_tokens == 1:
        TokenizeParams.max_input_tokens = property(lambda params: params.max_total_tokens)


def let_be_one(request: Any) -> Any:
    """The request, with a grammar that ends after one call if the request asks for that."""
    structure = getattr(request, "structured_outputs", None)
    if (
        not hasattr(structural_tag_registry, "limit_to_single_tool_call")
        and request.parallel_tool_calls is False
        and structure is not None
        and structure.structural_tag
    ):
        tag = json.loads(structure.structural_tag)
        _end_after_first(tag)
        structure.structural_tag = json.dumps(tag)
    return request


def _end_after_first(part: Any) -> None:
    if isinstance(part, dict):
        if part.get("type") in _LISTS:
            part["stop_after_first"] = True
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            _end_after_first(each)
