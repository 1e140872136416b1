"""vLLM's parsers of thoughts and calls, as the service composes them, on what models write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import Parser
from vllm.tokenizers.hf import get_cached_tokenizer

from service.vllm.chats import parser_without_tools
from service.vllm.patches.parsers import mended
from service.vllm.tool_parsers import parser_for
from tests.engine.thinking import thinking_model

HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n"
    "</function>\n</tool_call>"
)
THOUGHT = "The city is Oslo. I call <weather>.\n</think>\n\n"
PAIRS = {
    ("qwen3", "hermes"): HERMES,
    ("qwen3", "qwen3_coder"): CODER,
    ("deepseek_r1", "hermes"): HERMES,
}
NAMED = {"type": "function", "function": {"name": "weather"}}
OFF = {"enable_thinking": False}


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("thinking") / "model"
    thinking_model(tiny_folder, folder)
    return get_cached_tokenizer(AutoTokenizer.from_pretrained(folder))


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    chosen: tuple[str, str] = request.param
    return chosen


def request_of(thinks: bool, choice: Any = "auto") -> ChatCompletionRequest:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "weather", "parameters": schema}
    return ChatCompletionRequest.model_validate(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": choice,
        }
        | ({} if thinks else {"chat_template_kwargs": OFF})
    )


def made(kind: type[Parser], tokenizer: Any, request: ChatCompletionRequest) -> Parser:
    kwargs = request.chat_template_kwargs or {}
    return kind(tokenizer, request.tools, chat_template_kwargs=kwargs)


def composed(pair: tuple[str, str], tokenizer: Any) -> type[Parser]:
    thoughts, calls = pair
    parser = mended(
        parser_for(
            tokenizer,
            tool_parser_name=calls,
            reasoning_parser_name=thoughts,
            enable_auto_tools=True,
        )
    )
    assert parser is not None
    return parser


def read(
    parser: Parser, request: ChatCompletionRequest, written: str, prompt: list[int]
) -> list[Any]:
    """The thought, the text, and the calls that a parser finds in a whole answer."""
    if hasattr(parser, "set_prompt_token_ids"):  # vLLM's own of 0.31 is told no prompt
        parser.set_prompt_token_ids(prompt)
    thought, said, calls = parser.parse(written, request, enable_auto_tools=True)
    found = [(call.name, call.arguments) for call in calls or []]
    return [(thought or "").strip(), (said or "").strip(), found]


def read_stream(
    parser: Parser,
    request: ChatCompletionRequest,
    parts: Iterator[tuple[str, list[int]]],
    prompt: Any,
) -> list[Any]:
    """The same of an answer that comes in parts."""
    thought = said = ""
    calls: dict[int, list[str]] = {}
    *before, last = parts
    for text, ids in (*before, last):
        delta = parser.parse_delta(
            text, ids, request, prompt_token_ids=prompt, finished=(text, ids) is last
        )
        for call in (delta and delta.tool_calls) or []:
            kept = calls.setdefault(call.index, ["", ""])
            kept[0] += call.function.name or ""
            kept[1] += call.function.arguments or ""
        thought += (delta and delta.reasoning) or ""
        said += (delta and delta.content) or ""
    return [thought.strip(), said.strip(), [tuple(call) for call in calls.values()]]


def parts_of(
    tokenizer: Any, written: str, size: int, behind: int = 0
) -> Iterator[tuple[str, list[int]]]:
    """Parts of so many tokens, whose text is so many characters behind them, as with a `stop`."""
    ids = tokenizer.encode(written, add_special_tokens=False)
    given = 0
    for begin in range(0, len(ids), size):
        end = begin + size
        whole = tokenizer.decode(ids[:end])
        known = whole if end >= len(ids) else whole[: max(given, len(whole) - behind)]
        yield known[given:], ids[begin:end]
        given = len(known)


@pytest.mark.parametrize(
    ("size", "behind"), [(None, 0), (1, 0), (3, 0), (1000, 0), (1, 3), (1, 11), (2, 11), (3, 30)]
)
@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize(
    ("choice", "text"), [("auto", "I look it up.\n"), ("required", ""), (NAMED, "")]
)
def test_thoughts_text_and_calls_are_told_apart(
    pair: tuple[str, str],
    tokenizer: Any,
    choice: Any,
    text: str,
    thinks: bool,
    size: int | None,
    behind: int,
) -> None:
    request = request_of(thinks, choice)
    written = (THOUGHT if thinks else "") + text + PAIRS[pair]
    parser = made(composed(pair, tokenizer), tokenizer, request)
    prompt = tokenizer.encode("<think>\n" if thinks else "<think>\n\n</think>\n\n")
    if size is None:
        found = read(parser, request, written, prompt)
    else:
        found = read_stream(parser, request, parts_of(tokenizer, written, size, behind), prompt)
    thought = "The city is Oslo. I call <weather>." if thinks else ""
    assert found[:2] == [thought, text.strip()]
    assert [(name, arguments.replace(" ", "")) for name, arguments in found[2]] == [
        ("weather", '{"city":"Oslo"}')
    ]


@pytest.mark.parametrize("size", [None, 1, 1000])
def test_a_chat_without_tools_thinks_too(
    pair: tuple[str, str], tokenizer: Any, size: int | None
) -> None:
    kind = parser_without_tools(composed(pair, tokenizer), tokenizer, pair[0])
    assert kind is not None
    request = request_of(thinks=True, choice="none")
    parser = made(kind, tokenizer, request)
    written = THOUGHT + "Rain."
    prompt = tokenizer.encode("<think>\n")
    if size is None:
        found = read(parser, request, written, prompt)
    else:
        found = read_stream(parser, request, parts_of(tokenizer, written, size), prompt)
    assert found == ["The city is Oslo. I call <weather>.", "Rain.", []]


def test_parsers_of_vllm_look_for_thoughts_that_the_prompt_ended(tokenizer: Any) -> None:
    """The reason for mending them; when this fails, see service/vllm/patches/parsers.py."""
    kind = parser_for(
        tokenizer,
        tool_parser_name="hermes",
        reasoning_parser_name="deepseek_r1",
        enable_auto_tools=True,
    )
    assert kind is not None
    request = request_of(thinks=False)
    prompt = tokenizer.encode("<think>\n\n</think>\n\n")
    assert read(made(kind, tokenizer, request), request, "Rain.", prompt) == ["Rain.", "", []]
