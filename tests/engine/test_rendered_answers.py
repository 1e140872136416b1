"""Our answers to chats and completions beside those that vLLM makes of the same outputs."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput
from vllm.tokenizers.hf import get_cached_tokenizer

from service.context import enter_context, internal_context
from service.engine.contract import AnswerOptions
from service.errors import ServiceError
from service.tenants.tenant import Tier
from service.vllm.patches.parsers import mended
from service.vllm.tool_parsers import parser_for
from tests.engine.rendered import Both, Outputs, ordered, step
from tests.engine.thinking import thinking_model

SAID = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"messages": SAID}
TEXT: dict[str, Any] = {"prompt": "Hi", "max_tokens": 16}
STREAM = {"stream": True}
USAGE = {"stream_options": {"include_usage": True}}
ALL_USAGE = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@pytest.fixture(autouse=True)
def _request() -> None:
    context = internal_context("it", 60.0)
    context.model = "tiny"
    enter_context(context)


def outputs_of(
    texts: Sequence[tuple[str, int]], reason: str, stop_reason: int | str | None, cached: int
) -> Outputs:
    """The outputs of a stream with these texts of so many tokens each."""
    made = []
    for number, (text, tokens) in enumerate(texts, 1):
        said = CompletionOutput(0, text, [7] * tokens, None, None)
        finished = number == len(texts)
        if finished:
            said.finish_reason, said.stop_reason = reason, stop_reason
        counts: dict[str, Any] = {"num_cached_tokens": cached}
        counts["num_cache_creation_tokens"] = 3 - cached
        made.append(step(said, finished=finished, **counts))
    return made


texts = st.text() | st.sampled_from(["", '"\\\n', "\x00\u2028"])
ends = (
    st.sampled_from(["stop", "length"]),
    st.none() | st.integers(0, 9) | st.text(),
    st.integers(0, 3),
)
outputs = st.builds(
    lambda before, last, *end: outputs_of([*before, last], *end),
    st.lists(st.tuples(texts, st.integers(1, 3))),
    st.tuples(texts, st.integers(0, 3)),
    *ends,
)
whole_outputs = st.builds(
    lambda text, *end: outputs_of([text], *end), st.tuples(texts, st.integers(0, 99)), *ends
)
options = st.sampled_from([{}, {"stream_options": {"include_usage": False}}, USAGE])
EVENTS = re.compile(rb".*?\n\n", re.DOTALL)


def both(made: Both, body: dict[str, Any], *, flex: bool, name: str) -> tuple[bytes, bytes]:
    """Our answer and vLLM's to a request for this model."""
    context = internal_context("it", 60.0)
    context.model, context.tier = name, Tier.FLEX if flex else Tier.DEFAULT

    async def answer() -> tuple[bytes, bytes]:
        enter_context(context)
        return await made.ours(body), await made.theirs(body)

    return asyncio.run(answer())


@given(
    outputs=outputs,
    chat=st.booleans(),
    told=options,
    details=st.booleans(),
    flex=st.booleans(),
    name=st.text(min_size=1),
    goes_on=st.booleans(),
)
def test_a_stream_of_text_has_the_bytes_of_vllms_generator(
    outputs: Outputs,
    chat: bool,
    told: dict[str, Any],
    details: bool,
    flex: bool,
    name: str,
    goes_on: bool,
) -> None:
    body = TEXT
    if chat:
        body = {"messages": [*SAID, {"role": "user", "content": "!"}]}
        body |= {"add_generation_prompt": not goes_on}
    made = Both([outputs], options=AnswerOptions("print", cached_tokens=details))
    got, wanted = both(made, body | STREAM | told, flex=flex, name=name)
    assert b'"finish_reason":"' in got
    if b'"finish_reason":"' not in wanted:
        # vLLM tells no end of an answer without a token, up to 0.32.
        got = b"".join(each for each in EVENTS.findall(got) if b'"finish_reason":"' not in each)
    assert got == wanted


@given(
    outputs=whole_outputs,
    chat=st.booleans(),
    details=st.booleans(),
    flex=st.booleans(),
    name=st.text(min_size=1),
)
def test_a_whole_text_has_the_bytes_of_vllms_own(
    outputs: Outputs, chat: bool, details: bool, flex: bool, name: str
) -> None:
    made = Both([outputs], options=AnswerOptions("print", cached_tokens=details))
    got, wanted = both(made, CHAT if chat else TEXT | {"max_tokens": 99}, flex=flex, name=name)
    assert got == wanted


class Tokens:
    """A tokenizer whose tokens are their numbers."""

    def decode(self, token_ids: int | Sequence[int]) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return "".join(f"<{each}>" for each in ids)


def likely(*told: tuple[int, float, str | None]) -> dict[int, Logprob]:
    """Log-probabilities at one place."""
    return {
        token: Logprob(logprob, rank, text) for rank, (token, logprob, text) in enumerate(told, 1)
    }


def said(
    index: int,
    text: str,
    token_ids: list[int],
    reason: str | None = None,
    stop: int | str | None = None,
) -> CompletionOutput:
    """A part of an answer, with log-probabilities of all kinds."""
    places = [
        likely((each, -0.5, f"t{each}"), (40, float("-inf"), "é"), (41, -2.25, None))
        for each in token_ids
    ]
    return CompletionOutput(
        index, text, token_ids, None, places, finish_reason=reason, stop_reason=stop
    )


OF_PROMPT = [None, likely((2, -1.5, "two"), (9, -1.0, None)), likely((3, float("-inf"), None))]
ONE = [
    step(said(0, "He", [11]), prompt_logprobs=OF_PROMPT),
    step(said(0, "", [12]), prompt_logprobs=[]),
    step(said(0, "llo", [13, 14]), prompt_logprobs=[]),
    step(said(0, "!", [15], "stop", "\n"), finished=True, prompt_logprobs=[]),
]
TWO = [
    step(said(0, "He", [11]), said(1, "Good", [21]), prompt_logprobs=OF_PROMPT),
    step(said(1, "bye", [22], "length"), prompt_logprobs=[]),
    step(said(0, "y", [13], "stop", 13), finished=True, prompt_logprobs=[]),
]
APART = [
    step(said(1, "Good", [21]), prompt_logprobs=OF_PROMPT),
    step(said(0, "He", [11]), prompt_logprobs=OF_PROMPT),
    step(said(1, "bye", [22], "length"), prompt_logprobs=[]),
    step(said(0, "y", [13], "stop", 13), finished=True, prompt_logprobs=[]),
]
EMPTY = [step(said(0, "", [16], "stop"), finished=True, prompt_logprobs=OF_PROMPT)]
PARTLY_READ = [step(said(0, "", [])), *ONE]
SCRIPTS = {"one": ONE, "two": TWO, "two, apart": APART, "empty": EMPTY}

ASKED: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "token ids": {"return_token_ids": True},
}
CHAT_ASKED = ASKED | {
    "log-probabilities": {"logprobs": True},
    "likely ones": {"logprobs": True, "top_logprobs": 2},
    "likely ones by id": {
        "logprobs": True,
        "top_logprobs": 1,
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
    },
}
TEXT_ASKED = ASKED | {
    "log-probabilities": {"logprobs": 0},
    "likely ones": {"logprobs": 1},
    "likely ones by id": {"logprobs": 2, "return_tokens_as_token_ids": True},
    "echo": {"echo": True},
    "echo with ids": {"echo": True, "return_token_ids": True},
    "echo with log-probabilities": {"echo": True, "logprobs": 1},
    "echo with all": {"echo": True, "logprobs": 1, "return_token_ids": True},
}
STREAMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "stream": STREAM,
    "usage": STREAM | USAGE,
    "continuous usage": STREAM | ALL_USAGE,
}
OPTIONS = {
    "plain": AnswerOptions("print"),
    "without details": AnswerOptions(None, cached_tokens=False),
    "usage always, ids": AnswerOptions("print", usage_always=True, tokens_as_ids=True),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("streamed", STREAMS)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("asked", CHAT_ASKED)
async def test_a_chat_is_answered_as_by_vllms_handler(
    asked: str, script: str, streamed: str, option: str
) -> None:
    body = CHAT | CHAT_ASKED[asked] | STREAMS[streamed]
    if "two" in script:
        body |= {"n": 2}
    made = Both([SCRIPTS[script]], options=OPTIONS[option], tokenizer=Tokens())
    assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("streamed", STREAMS)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("asked", TEXT_ASKED)
async def test_a_completion_is_answered_as_by_vllms_handler(
    asked: str, script: str, streamed: str, option: str
) -> None:
    body = TEXT | TEXT_ASKED[asked] | STREAMS[streamed]
    if "two" in script:
        body |= {"n": 2}
    made = Both([SCRIPTS[script]], options=OPTIONS[option], tokenizer=Tokens())
    assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


@pytest.mark.parametrize("streamed", STREAMS)
@pytest.mark.parametrize("body", [CHAT, CHAT | {"logprobs": True}, TEXT, TEXT | {"logprobs": 1}])
async def test_a_prompt_that_is_partly_read_is_no_event(
    body: dict[str, Any], streamed: str
) -> None:
    body = body | STREAMS[streamed]
    made = Both([PARTLY_READ], tokenizer=Tokens())
    assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"return_token_ids": True}])
@pytest.mark.parametrize("streamed", STREAMS)
async def test_an_echo_alone_is_told_as_by_vllms_handler_but_not_counted(
    streamed: str, more: dict[str, Any]
) -> None:
    only = [step(said(0, "He", [11], "length"), finished=True, prompt_logprobs=OF_PROMPT)]
    body = TEXT | {"echo": True, "max_tokens": 0} | more | STREAMS[streamed]
    made = Both([only], tokenizer=Tokens())
    theirs = await made.theirs(body)
    for counted, told in ((b'"completion_tokens":1', b"0"), (b'"total_tokens":4', b"3")):
        assert counted in theirs or streamed == "stream"
        theirs = theirs.replace(counted, counted[:-1] + told)
    assert ordered(await made.ours(body)) == ordered(theirs)


@pytest.mark.parametrize("asked", TEXT_ASKED)
@pytest.mark.parametrize("streamed", STREAMS)
@pytest.mark.parametrize("script", ["one", "two"])
async def test_several_prompts_are_answered_as_by_vllms_handler(
    script: str, streamed: str, asked: str
) -> None:
    body = TEXT | {"prompt": ["Hi", "Hi"]} | TEXT_ASKED[asked] | STREAMS[streamed]
    if script == "two":
        body |= {"n": 2}
    made = Both([SCRIPTS[script]] * 2, tokenizer=Tokens())
    assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


@pytest.mark.parametrize("chat", [False, True])
async def test_log_probabilities_of_the_prompt_are_told_as_by_vllms_handler(chat: bool) -> None:
    body = (CHAT if chat else TEXT) | {"prompt_logprobs": 1}
    for script in (ONE, TWO):
        made = Both([script], tokenizer=Tokens())
        more = {"n": 2} if script is TWO else {}
        assert ordered(await made.ours(body | more)) == ordered(await made.theirs(body | more))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("thinking") / "model"
    thinking_model(tiny_folder, folder)
    return get_cached_tokenizer(AutoTokenizer.from_pretrained(folder))


THOUGHT = "The city is Oslo.\n</think>\n\n"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
NAMED = {"type": "function", "function": {"name": "weather"}}
WRITTEN = {
    "text": "It rains.",
    "a call": CALL,
    "text and a call": "I look it up.\n" + CALL,
    "two calls": CALL + "\n" + CALL,
}
CHOSEN: dict[str, dict[str, Any]] = {
    "no tools": {},
    "auto": {"tools": TOOLS},
    "none": {"tools": TOOLS, "tool_choice": "none"},
    "required": {"tools": TOOLS, "tool_choice": "required"},
    "named": {"tools": TOOLS, "tool_choice": NAMED},
    "one call": {"tools": TOOLS, "parallel_tool_calls": False},
}
PARSED_ASKED: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "hidden": {"include_reasoning": False, "logprobs": True, "return_token_ids": True},
    "all": {"logprobs": True, "top_logprobs": 1, "return_token_ids": True},
}


def written_by(tokenizer: Any, text: str, reason: str, size: int, index: int = 0) -> Outputs:
    """The steps of an answer, of so many tokens each."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    begins, steps = range(0, len(ids), size), []
    for begin in begins:
        part = tokenizer.decode(ids[: begin + size])[len(tokenizer.decode(ids[:begin])) :]
        last = begin == begins[-1]
        output = said(index, part, ids[begin : begin + size], reason if last else None)
        steps.append(step(output, prompt=[1], finished=last))
    return steps


@pytest.mark.parametrize("streamed", STREAMS)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("chosen", CHOSEN)
async def test_thoughts_and_calls_are_told_as_by_vllms_handler(
    tokenizer: Any, chosen: str, written: str, streamed: str
) -> None:
    kind = mended(
        parser_for(
            tokenizer,
            tool_parser_name="hermes",
            reasoning_parser_name="qwen3",
            enable_auto_tools=True,
        )
    )
    for asked in PARSED_ASKED.values():
        for reason, size in (("stop", 1), ("stop", 1000), ("length", 3)):
            steps = written_by(tokenizer, THOUGHT + WRITTEN[written], reason, size)
            made = Both([steps], parser=kind, tokenizer=tokenizer, prompt=[1], reasoning=True)
            body = CHAT | CHOSEN[chosen] | asked | STREAMS[streamed]
            assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


ASKS_TOOLS = {"tools": [{"type": "function", "function": {"name": "now"}}]}
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("written", "content", "calls"),
    [
        (f'Wait. {CALL}\n<tool_call>\n{{"name": "no', "Wait. ", ["now"]),
        (f"Wait. {CALL}\n<tool_call>", "Wait. ", ["now"]),
        ('Wait. <tool_call>\n{"name": "no', "Wait. ", []),
        (f"Wait. {CALL.removesuffix('</tool_call>')}", "Wait. ", ["now"]),
        (f"Wait. {CALL}{CALL}", "Wait. ", ["now", "now"]),
    ],
)
async def test_whole_calls_are_kept_when_an_answer_ends_within_one(
    tokenizer: Any, written: str, content: str, calls: list[str]
) -> None:
    kind = mended(parser_for(tokenizer, tool_parser_name="hermes", enable_auto_tools=True))
    steps = written_by(tokenizer, written, "length", 1000)
    made = await Both([steps], parser=kind, tokenizer=tokenizer, prompt=[1]).ours(CHAT | ASKS_TOOLS)
    message = json.loads(made)["choices"][0]["message"]
    assert message["content"] == content
    assert [each["function"]["name"] for each in message.get("tool_calls", ())] == calls


@pytest.mark.parametrize("streamed", STREAMS)
async def test_several_answers_think_as_by_vllms_handler(tokenizer: Any, streamed: str) -> None:
    kind = mended(parser_for(tokenizer, reasoning_parser_name="qwen3"))
    first = written_by(tokenizer, THOUGHT + "It rains.", "stop", 2)
    second = written_by(tokenizer, "It may rain.\n</think>\n\nYes.", "stop", 3, index=1)
    steps = [each for pair in zip(first, second, strict=False) for each in pair]
    steps += [*first[len(second) :], *second[len(first) :]]
    made = Both([steps], parser=kind, tokenizer=tokenizer, prompt=[1], reasoning=True)
    body = CHAT | {"n": 2} | STREAMS[streamed]
    assert ordered(await made.ours(body)) == ordered(await made.theirs(body))


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_engine_ends_an_answer(stream: bool, chat: bool) -> None:
    outputs = outputs_of([("a", 1), ("b", 1)] if stream else [("a", 1)], "error", None, 0)
    with pytest.raises(ServiceError):
        await Both([outputs]).ours((CHAT if chat else TEXT) | {"stream": stream})
