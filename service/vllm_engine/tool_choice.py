"""The choice of tools where the engine has no parser of tool calls."""

from collections.abc import Container
from typing import Any

from service.errors import UnsupportedFeature


def parses_calls(handler: Any) -> bool:
    """True if a handler of vLLM's finds tool calls in what a model writes."""
    parser = handler.online_renderer.parser
    return parser is not None and parser.tool_parser_cls is not None


def check_tool_choice(handler: Any, choice: Any, free: Container[str]) -> None:
    """Raise UnsupportedFeature for a call that is asked for and that no parser would find.

    Choices in `free` leave it to the model, which answers with text then.
    """
    if (not isinstance(choice, str) or choice not in free) and not parses_calls(handler):
        raise unreadable_calls()


def unreadable_calls() -> UnsupportedFeature:
    """The refusal of a call that is asked for and that no parser would find."""
    return UnsupportedFeature(
        "tool_choice: calls of this model cannot be read, so it must be auto or none; the operator "
        "can set engine.tool_call_parser",
        param="tool_choice",
    )
