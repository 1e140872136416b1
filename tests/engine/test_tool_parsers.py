"""The parser of tools' calls, chosen by the model's chat template."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.parser import ParserManager
from vllm.tool_parsers import ToolParserManager

from service.errors import ConfigurationError
from service.models.packages import TOOL_USE
from service.vllm.tool_parsers import PARSERS, check_parser, chosen_parser, recognised

OPENING = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
# As the templates of the models named here write calls, and what they tell the model of these.
EXCERPTS = {
    "Qwen 2.5 and 3": (
        r'"<tool_call>\n{\"name\": <function-name>, \"arguments\": <args>}"',
        "hermes",
    ),
    "Hermes 3": ('{"arguments": <args-dict>, "name": <f>} in <tool_call></tool_call>', "hermes"),
    "SmolLM2's for tools": (TOOL_USE, "hermes"),
    "Qwen3 Coder": (r"<tool_call>\n<function=f>\n<parameter=a>\n1", "qwen3_coder"),
    "Llama 3.1": (
        "<|start_header_id|>system Respond in the format "
        '{"name": function name, "parameters": dictionary of argument name and its value}',
        "llama3_json",
    ),
    "Llama 4": ("<|header_start|>system [func_name1(params_name1=1)]", "llama4_pythonic"),
    "Mistral": ("[AVAILABLE_TOOLS]{{ tools }}[/AVAILABLE_TOOLS][TOOL_CALLS]", "mistral"),
    "DeepSeek V3": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c>' + '\\n' + '```json' + '\\n'",
        "deepseek_v3",
    ),
    "DeepSeek V3.1": ("<\uff5ctool\u2581calls\u2581begin\uff5c>' + name", "deepseek_v31"),
    "Kimi K2": (
        "<|tool_calls_section_begin|><|tool_call_begin|>f:0<|tool_call_argument_begin|>",
        "kimi_k2",
    ),
    "GLM 4.5": ("[gMASK]<sop><tool_call>f\n<arg_key>a</arg_key><arg_value>", "glm45"),
    "Granite 3": ("<|start_of_role|>assistant<|tool_call|>", "granite"),
    "Granite 4": (r'<|start_of_role|><tool_call>{"name": "f", "arguments": {}}', "granite4"),
    "gpt-oss": ("<|channel|>commentary to=functions.f", "openai"),
    "SmolLM2's own": ("{% for message in messages %}<|im_start|>{{ message }}", "no"),
    "a model that shows tools in its own way": ("[TOOLS]{{ tools }}[/TOOLS]", "no"),
}


@pytest.mark.parametrize(("excerpt", "parser"), EXCERPTS.values(), ids=EXCERPTS.keys())
def test_a_template_tells_the_parser(excerpt: str, parser: str) -> None:
    assert recognised(OPENING + excerpt) == (None if parser == "no" else parser)


def test_vllm_has_every_parser_of_the_table() -> None:
    assert {name for name, _ in PARSERS} <= set(ToolParserManager.list_registered())


def test_no_row_of_the_table_hides_a_later_one() -> None:
    for name, texts in PARSERS:
        assert recognised(" ".join(texts)) == name


HERMES = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("template", "engine", "parser"),
    [
        (HERMES, {}, "hermes"),
        (HERMES, {"enable_auto_tool_choice": True}, "hermes"),
        (HERMES, {"enable_auto_tool_choice": False}, None),
        (HERMES, {"enable_auto_tool_choice": False, "tool_call_parser": "hermes"}, None),
        (HERMES, {"tool_call_parser": "llama3_json"}, "llama3_json"),
        (HERMES, {"chat_template": "{{ messages }}"}, None),
        ("{{ messages }}", {}, None),
        ("{{ messages }}", {"tool_call_parser": "mistral"}, "mistral"),
        ("{{ messages }}", {"chat_template": HERMES}, "hermes"),
    ],
)
def test_the_configuration_comes_before_the_template(
    tmp_path: Path, template: str, engine: dict[str, Any], parser: str | None
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    chosen = chosen_parser(tmp_path, engine)
    assert chosen["enable_auto_tool_choice"] == (parser is not None)
    assert chosen["tool_call_parser"] == parser


def test_calls_are_held_by_default_where_that_was_tried(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(HERMES)
    assert chosen_parser(tmp_path, {})["tool_strict_level"] == "parameter"
    assert chosen_parser(tmp_path, {"tool_strict_level": "auto"})["tool_strict_level"] == "auto"
    # vLLM's versions read the same level otherwise, so nothing is said where nothing was tried.
    assert "tool_strict_level" not in chosen_parser(tmp_path, {"tool_call_parser": "mistral"})


def test_a_template_in_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(HERMES)
    chosen = chosen_parser(tmp_path, {"chat_template": str(tmp_path / "own.jinja")})
    assert chosen["tool_call_parser"] == "hermes"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"tool_call_parser": "hermess"}, r"engine\.tool_call_parser: must be .*mean 'hermes'"),
        ({"enable_auto_tool_choice": True}, r"set engine\.tool_call_parser"),
    ],
)
def test_a_parser_that_is_not_there(tmp_path: Path, engine: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        chosen_parser(tmp_path, engine)
    assert "--" not in str(refused.value)


@pytest.fixture(params=["this vLLM", "one that tries no parser"])
def _tried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of vLLM: up to 0.31 it makes a class of parsers and tries it on no tokenizer."""
    make = ParserManager.get_parser

    def untried(tool_parser_name: str, enable_auto_tools: bool) -> Any:
        return make(tool_parser_name=tool_parser_name, enable_auto_tools=enable_auto_tools)

    if request.param != "this vLLM":
        monkeypatch.setattr(ParserManager, "get_parser", untried)


@pytest.mark.usefixtures("_tried")
def test_a_parser_whose_tokens_the_model_lacks(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer: Any = SimpleNamespace(get_vocab=dict)

    def arguments() -> Any:
        return SimpleNamespace(enable_auto_tool_choice=True, tool_call_parser="deepseek_v31")

    with pytest.raises(ConfigurationError, match=r"engine\.tool_call_parser: deepseek_v31") as no:
        check_parser(arguments(), tokenizer, configured=True)
    assert "--" not in str(no.value)
    chosen = arguments()
    check_parser(chosen, tokenizer, configured=False)
    assert (chosen.enable_auto_tool_choice, chosen.tool_call_parser) == (False, None)
    assert "answer without calling tools" in caplog.text
