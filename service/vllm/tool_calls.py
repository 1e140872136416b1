"""Tools that a chat offers, as far as calls of the model can be read."""

import copy
from argparse import Namespace
from typing import Any

from vllm.parser.harmony import HarmonyParser

from service.context import current_context
from service.errors import UnsupportedFeature
from service.vllm.patches.parsers import mended
from service.vllm.tool_parsers import parser_for

USES = (
    "reads vllm.parser.harmony:HarmonyParser",
    "calls vllm.parser.parser_manager:ParserManager.get_parser",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

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


_TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")


def offered(body: dict[str, Any], *, readable: bool) -> dict[str, Any]:
    """A body without tools that can have no effect; the context notes that they are ignored.

    Where calls cannot be read, the model answers in text. Raises UnsupportedFeature for a
    `tool_choice` that asks for a call then.
    """
    choice = body.get("tool_choice", "auto")
    if body.get("tools"):
        if readable:
            return body
        check_tool_choice(choice, readable=False)
        context = current_context()
        context.ignored_fields = (*context.ignored_fields, "tools")
    elif choice not in FREE:
        return body  # vLLM refuses it by name
    return {name: value for name, value in body.items() if name not in _TOOL_FIELDS}


def offers(body: dict[str, Any]) -> bool:
    """True if the answer may hold calls."""
    return bool(body.get("tools")) and body.get("tool_choice") != "none"


def without_tools(handler: Any, arguments: Namespace) -> Any:
    """A copy of a chat handler of vLLM's that looks for no calls, for requests without tools.

    Harmony's parser stays, because it reads the whole format of its models.
    """
    parser = handler.parser_cls
    plain = copy.copy(handler)
    if parser is not None and not issubclass(parser, HarmonyParser):
        plain.parser_cls = mended(
            parser_for(
                handler.renderer.tokenizer,
                reasoning_parser_name=arguments.structured_outputs_config.reasoning_parser,
            )
        )
    return plain
