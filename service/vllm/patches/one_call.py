"""One call alone where `parallel_tool_calls` is false, on a vLLM whose grammars let several be."""

import json
from typing import Any

from vllm.tool_parsers import structural_tag_registry

from service.vllm.patches import Patch

PATCH = Patch(
    "a response may hold several calls though parallel_tool_calls is false",
    until="0.32.0",
)

USES = ("mirrors vllm.tool_parsers.structural_tag_registry:limit_to_single_tool_call",)

_LISTS = ("triggered_tags", "token_triggered_tags", "tags_with_separator")
"""Parts of a grammar that repeat calls, and never arguments."""


def let_be_one(request: Any) -> Any:
    """The request, whose grammar ends after one call if it asks for that.

    From 0.32 on vLLM does the same. Before, it drops further calls of a chat's answer, and none of
    a response's.
    """
    if hasattr(structural_tag_registry, "limit_to_single_tool_call"):
        return request
    structure = getattr(request, "structured_outputs", None)
    if request.parallel_tool_calls is False and structure is not None and structure.structural_tag:
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
