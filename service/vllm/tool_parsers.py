"""The parser of a model's tool calls, chosen by the model's chat template."""

import json
import logging
from argparse import Namespace
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from service.common.error_messages import nearest
from service.errors import ConfigurationError

USES = ("calls vllm.tool_parsers.abstract_tool_parser:ToolParserManager.list_registered",)

_log = logging.getLogger(__name__)

_DEEPSEEKS = "<\uff5ctool\u2581calls\u2581begin\uff5c>"

PARSERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("openai", ("<|channel|>", "commentary", "functions.")),
    ("kimi_k2", ("<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>")),
    ("deepseek_v3", (_DEEPSEEKS, "```json")),
    ("deepseek_v31", (_DEEPSEEKS,)),
    ("minimax_m2", ("<minimax:tool_call>", "<invoke name=")),
    ("seed_oss", ("<seed:tool_call>", "<function=")),
    ("longcat", ("<longcat_tool_call>",)),
    ("apertus", ("<|tools_prefix|>",)),
    ("lfm2", ("<|tool_call_start|>[",)),
    ("gemma4", ("<|tool_call>call:",)),
    ("functiongemma", ("<start_function_call>",)),
    ("glm45", ("[gMASK]", "<tool_call>", "<arg_key>", "<arg_value>")),
    ("granite4", ("<|start_of_role|>", "<tool_call>", '"arguments"')),
    ("granite", ("<|start_of_role|>", "<|tool_call|>")),
    ("mistral", ("[AVAILABLE_TOOLS]", "[TOOL_CALLS]")),
    ("llama4_pythonic", ("<|header_start|>", "[func_name1(")),
    ("llama4_json", ("<|header_start|>", '"parameters": dictionary of argument name')),
    ("llama3_json", ("<|start_header_id|>", '"parameters": dictionary of argument name')),
    ("olmo3", ("<function_calls>", "<functions>")),
    ("internlm", ("<|action_start|>", "<|plugin|>")),
    ("qwen3_coder", ("<tool_call>", "<function=", "<parameter=")),
    ("hermes", ("<tool_call>", '"name":', '"arguments":')),
)
"""Parsers by vLLM's names, each with texts that all occur in a template of its format.

The first such parser is chosen, so a more general format stands below a special one. For a model
without any of these, `engine.tool_call_parser` names the parser.
"""

_HELD = frozenset({"hermes"})
"""Parsers under which optional calls, too, are constrained to their schemas, unless configured
otherwise. vLLM has grammars for more; this one is tried with a model (docs/decisions/0021)."""


def recognised(template: str) -> str | None:
    """The parser for the format in which a template writes tool calls; None if it is not known."""
    # A template writes the quotes of JSON as they are, or escaped in a text of its own.
    plain = template.replace('\\"', '"')
    return next((name for name, texts in PARSERS if all(text in plain for text in texts)), None)


def chosen_parser(folder: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's arguments about tools, for the engine arguments of a configuration.

    Raises ConfigurationError for a parser that vLLM does not have, and if tools are required but no
    parser is known.
    """
    from vllm.tool_parsers import ToolParserManager

    wanted, name = arguments.get("enable_auto_tool_choice"), arguments.get("tool_call_parser")
    if str(wanted).lower() == "false":
        return {"enable_auto_tool_choice": False, "tool_call_parser": None}
    known = ToolParserManager.list_registered()
    if name is not None and name not in known:
        raise ConfigurationError(
            f"engine.tool_call_parser: must be one of {', '.join(known)}, got {name!r}"
            f"{nearest(str(name), known)}"
        )
    name = name or recognised(chat_template(folder, arguments.get("chat_template")))
    if name is None and wanted is not None:
        raise ConfigurationError(
            "engine.enable_auto_tool_choice: the model's chat template shows no known format of "
            "calls; set engine.tool_call_parser"
        )
    chosen = {"enable_auto_tool_choice": name is not None, "tool_call_parser": name}
    if name in _HELD:
        # Elsewhere vLLM's own default, which means another level from version to version, is left.
        chosen["tool_strict_level"] = arguments.get("tool_strict_level", "parameter")
    return chosen


def check_parser(arguments: Namespace, tokenizer: Any, *, configured: bool) -> None:
    """Switch tools off if the chosen parser cannot read this tokenizer's answers.

    Raises ConfigurationError instead if the parser is `configured`.
    """
    name = arguments.tool_call_parser
    if name is None:
        return
    try:
        parser_for(tokenizer, tool_parser_name=name, enable_auto_tools=True)
    except TypeError as error:
        if error.__cause__ is None:
            raise  # not vLLM's word about the tokenizer, but a call that it does not take
        reason = f"engine.tool_call_parser: {name} cannot read this model: {error.__cause__}"
        if configured:
            raise ConfigurationError(reason) from error
        _log.warning("%s; chats answer without calling tools", reason)
        arguments.enable_auto_tool_choice, arguments.tool_call_parser = False, None


def parser_for(tokenizer: Any, **asked: Any) -> Any:
    """vLLM's parser class for these names, tried on this tokenizer; None if no parser is named.

    Raises TypeError, with its cause, if it cannot parse this tokenizer's output. Older versions of
    vLLM do not try it, and would fail at the first request.
    """
    from vllm.parser import ParserManager

    if "tokenizer" in signature(ParserManager.get_parser).parameters:
        return ParserManager.get_parser(**asked, tokenizer=tokenizer)
    found = ParserManager.get_parser(**asked)
    if found is not None:
        try:
            found(tokenizer)
        except Exception as error:
            raise TypeError(f"a parser cannot be used with the tokenizer: {error}") from error
    return found


def chat_template(folder: Path, given: Any) -> str:
    """The template of conversations with tools: the configured one, a file or a text, if any."""
    template = given_template(given)
    return tool_template(folder) if template is None else template


def given_template(given: Any) -> str | None:
    """The configured template, a file or a text; None where none is."""
    if given is None:
        return None
    try:
        return Path(given).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return str(given)


def tool_template(folder: Path) -> str:
    """The template of a conversation with tools: the one named `tool_use`, else the only one.

    Empty if the folder holds none that can be read.
    """
    named = folder / "additional_chat_templates" / "tool_use.jinja"
    for file in (named, folder / "chat_template.jinja"):
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if template := _chosen(_stored(folder / name)):
            return template
    return ""


def _stored(file: Path) -> Any:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document.get("chat_template") if isinstance(document, dict) else None


def _chosen(stored: Any) -> str:
    """One template of those that a file holds: one text, or a list of named ones."""
    if isinstance(stored, list):
        named = {each.get("name"): each.get("template") for each in stored}
        stored = named.get("tool_use", named.get("default"))
    return stored if isinstance(stored, str) else ""
