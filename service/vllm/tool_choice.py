"""The choice of tools where the engine has no parser of tool calls."""

from typing import Any

from service.errors import UnsupportedFeature

FREE = ("auto", "none")
"""Choices that allow an answer in text, the only one of models whose calls cannot be read."""


def parses_calls(handler: Any) -> bool:
    """True if a handler of vLLM's finds tool calls in what a model writes."""
    parser = handler.online_renderer.parser
    return parser is not None and parser.tool_parser_cls is not None


def check_tool_choice(choice: Any, *, readable: bool) -> None:
    """Raise UnsupportedFeature for a choice that demands a call if no parser would find it."""
    if choice not in FREE and not readable:
        raise UnsupportedFeature(
            "tool_choice: calls of this model cannot be read, so it must be auto or none; the "
            "operator can set engine.tool_call_parser",
            param="tool_choice",
        )
