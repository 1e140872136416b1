"""Conversations: whole answers, the same answers as they are made, thoughts and calls of tools."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from loadtests.processes import eventually
from service.context import current_context
from service.engine.contract import Sampling
from service.engine.texts import Chat, PreparedChat, Said
from service.errors import EngineDead, UnsupportedFeature
from service.generation.conversation import ChatStep, Choice, Conversation, Usage
from tests.fake_engines import fake_engine
from tests.generation.slow_client import SlowClient
from tests.staged_engine import StagedModel

ASK = Chat([{"role": "user", "content": "Tell me"}])
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
SAMPLING = Sampling(8, seed=1, ignore_eos=True)


class Thinking:
    """Implements `chats.AnswerParser`: a word of thought, one that ends it, then the answer."""

    def __init__(self) -> None:
        self._words = 0

    def whole(self, text: str, token_ids: Sequence[int]) -> Said:
        _, thought, _, *said = text.split(" ")
        return Said("".join(f" {word}" for word in said), f" {thought}")

    def delta(self, text: str, token_ids: Sequence[int], *, last: bool) -> dict[str, Any] | None:
        self._words += 1
        if self._words == 2:
            return None
        return {"reasoning" if self._words == 1 else "content": text}

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        return 1


class ThinkingChats:
    """Chats of the fake engine, as a model with thoughts has them."""

    calls_tools = True
    reads_documents = False

    def __init__(self, model: StagedModel) -> None:
        self._chats = model.chats

    async def prepare(self, chat: Chat, sampling: Sampling) -> PreparedChat:
        prepared = await self._chats.prepare(chat, sampling)
        return replace(prepared, parser=Thinking, counts_reasoning=True)


class Deaf:
    """A format of chats in which no calls can be found, and nothing is rendered."""

    calls_tools = False
    reads_documents = False

    def __init__(self) -> None:
        self.asked: list[Chat] = []

    async def prepare(self, chat: Chat, sampling: Sampling) -> PreparedChat:
        self.asked.append(chat)
        raise NotImplementedError


class Listener:
    """Remembers what a conversation tells; may fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.heard: list[str] = []
        self.steps: list[ChatStep] = []
        self.usage = Usage()
        self._failure = failure

    def begin(self, usage: Usage) -> None:
        self.heard.append("begin")
        self.usage = usage
        assert usage.prompt_tokens > 0

    def take(self, step: ChatStep) -> None:
        self.heard.append("take")
        self.steps.append(step)
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        self.heard.append("end")

    def said(self) -> list[tuple[str | None, str | None, str | None]]:
        """Content, thoughts and the reason of the end, by sequence."""
        texts: defaultdict[int, defaultdict[str, str]] = defaultdict(lambda: defaultdict(str))
        reasons: dict[int, str | None] = {}
        for step in self.steps:
            assert step.index not in reasons
            for key, text in (step.delta or {}).items():
                texts[step.index][key] += text
            if step.finish_reason is not None:
                reasons[step.index] = step.finish_reason
        return [
            (texts[index]["content"], texts[index]["reasoning"] or None, reasons[index])
            for index in sorted(texts)
        ]


async def conversation(
    model: StagedModel, chat: Chat = ASK, sampling: Sampling = SAMPLING, *, details: bool = False
) -> Conversation:
    found = await Conversation.prepare(model, chat, sampling, None)
    found.details = details
    return found


async def streamed(asked: Conversation, client: SlowClient | None = None) -> Listener:
    listener = Listener()
    await asked.stream(listener, client or SlowClient())
    assert [listener.heard[0], listener.heard[-1]] == ["begin", "end"]
    assert set(listener.heard[1:-1]) == {"take"}
    return listener


def said(choice: Choice) -> tuple[str | None, str | None, str | None]:
    return choice.said.content, choice.said.reasoning, choice.finish_reason


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_stream_tells_what_the_whole_answer_says(
    n: int, busy: bool, details: bool, thinking: bool
) -> None:
    model, _ = fake_engine()
    if thinking:
        model.chats = ThinkingChats(model)
    sampling = replace(SAMPLING, n=n, logprobs=2 if details else None)
    choices, usage = await (await conversation(model, sampling=sampling, details=details)).whole()
    asked = await conversation(model, sampling=sampling, details=details)
    listener = await streamed(asked, SlowClient(busy=busy))
    assert listener.said() == [said(choice) for choice in choices]
    assert [choice.index for choice in choices] == list(range(n))
    assert listener.usage == usage
    assert usage.completion_tokens == 8 * n
    assert usage.reasoning_tokens == (n if thinking else None)
    if details:
        for index, choice in enumerate(choices):
            parts = [step.part for step in listener.steps if step.index == index]
            assert [token for part in parts for token in part.token_ids] == choice.part.token_ids
            told = [place for part in parts for place in part.logprobs or ()]
            assert told == choice.part.logprobs
            assert len(told) == 8


async def test_text_that_a_busy_client_does_not_take_becomes_one_step() -> None:
    model, _ = fake_engine()
    busy = await streamed(await conversation(model), SlowClient(busy=True))
    quick = await streamed(await conversation(model), SlowClient())
    assert [len(busy.steps), len(quick.steps)] == [1, 8]
    assert busy.said() == quick.said()


@pytest.mark.parametrize("tells", [True, False])
async def test_a_step_that_says_nothing_is_told_if_its_tokens_are(tells: bool) -> None:
    model, _ = fake_engine()
    model.chats = ThinkingChats(model)
    asked = await conversation(model, details=tells)
    asked.tells_tokens = tells
    listener = await streamed(asked)
    assert [step.delta is None for step in listener.steps].count(True) == tells
    assert len(listener.steps) == 7 + tells


async def test_no_tokens_of_thoughts_that_are_hidden_are_told() -> None:
    model, _ = fake_engine()
    model.chats = ThinkingChats(model)
    chat, sampling = replace(ASK, include_reasoning=False), replace(SAMPLING, logprobs=1)
    (choice,), _ = await (await conversation(model, chat, sampling, details=True)).whole()
    asked = await conversation(model, chat, sampling, details=True)
    asked.tells_tokens = True
    listener = await streamed(asked)
    for part in (choice.part, *(step.part for step in listener.steps)):
        assert (part.token_ids, part.logprobs) == ([], None)
    assert len(listener.steps) == 7


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), ("function:look", "stop")],
)
async def test_a_demanded_call_is_told_as_a_call(choice: str, reason: str) -> None:
    model, _ = fake_engine()
    chat = replace(ASK, tools=(TOOL,), tool_choice=choice)
    (whole,), _ = await (await conversation(model, chat)).whole()
    assert [call.name for call in whole.said.calls] == ["look"]
    assert whole.finish_reason == reason
    listener = await streamed(await conversation(model, chat))
    (step,) = listener.steps
    assert step.delta is not None
    assert [call["function"]["name"] for call in step.delta["tool_calls"]] == ["look"]
    assert step.finish_reason == reason


async def test_tools_that_are_offered_leave_the_answer_a_text() -> None:
    model, _ = fake_engine()
    chat = replace(ASK, tools=(TOOL,), tool_choice="auto")
    (whole,), _ = await (await conversation(model, chat)).whole()
    assert (whole.said.calls, whole.finish_reason) == ((), "length")
    assert (await streamed(await conversation(model, chat))).said() == [said(whole)]


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_tools_whose_calls_cannot_be_found_are_left_out_and_noted(choice: str) -> None:
    model, _ = fake_engine()
    model.chats = deaf = Deaf()
    with pytest.raises(NotImplementedError):
        await conversation(model, replace(ASK, tools=(TOOL,), tool_choice=choice))
    assert [(chat.tools, chat.tool_choice) for chat in deaf.asked] == [((), "none")]
    assert current_context().ignored_fields == ("tools",)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": (TOOL,), "tool_choice": "required"}, "tool_choice"),
        ({"tools": (TOOL,), "tool_choice": "function:look"}, "tool_choice"),
        ({"documents": ({"text": "a"},)}, "documents"),
    ],
)
async def test_what_the_models_format_cannot_do_is_refused_before_it_is_rendered(
    changes: Mapping[str, Any], param: str
) -> None:
    model, _ = fake_engine()
    model.chats = deaf = Deaf()
    with pytest.raises(UnsupportedFeature) as refused:
        await conversation(model, replace(ASK, **changes))
    assert refused.value.param == param
    assert deaf.asked == []


async def test_a_chat_that_admission_refuses_is_not_rendered() -> None:
    model, admission = fake_engine()
    model.chats = deaf = Deaf()
    admission.close(lambda: EngineDead("ended"))
    with pytest.raises(EngineDead):
        await conversation(model)
    assert deaf.asked == []


async def test_log_probabilities_of_the_prompt_are_known_however_it_is_answered() -> None:
    model, _ = fake_engine()
    sampling = replace(SAMPLING, prompt_logprobs=1)
    whole = await conversation(model, sampling=sampling, details=True)
    await whole.whole()
    stream = await conversation(model, sampling=sampling, details=True)
    await streamed(stream)
    assert whole.prompt_logprobs == stream.prompt_logprobs
    assert len(whole.prompt_logprobs) == whole.prompt_tokens


async def leave(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_client_that_leaves_or_cannot_be_told_ends_the_answer(leaves: bool) -> None:
    model, admission = fake_engine()
    asked = await conversation(model)
    if leaves:
        model.raw.frozen = True
        task = asyncio.create_task(asked.stream(Listener(), SlowClient()))
        await eventually(lambda: model.raw.running == 1)
        await leave(task)
    else:
        with pytest.raises(ZeroDivisionError):
            await asked.stream(Listener(ZeroDivisionError()), SlowClient())
    assert (admission.in_flight, model.raw.running) == (0, 0)
