"""The check before the service is ready: what comes out of the fast client and of the public."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from service.context import enter_context, internal_context
from service.engine.protocol import Sampling
from service.errors import DeadlineExceeded, InvalidRequest
from service.vllm.fast.engine import FastEngine
from service.vllm.fast.label_query import LabelRequest
from service.vllm.fast.request import FastRequest
from service.vllm.self_check import SelfCheckFailed, check_calls, differing
from service.vllm.stock import StockEngine
from tests.engine.in_process import Running, running_engine

GREEDY = Sampling(max_tokens=6, temperature=0.0)


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=8, client="fast") as engine:
        yield engine


def break_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the fast client hand on other texts than those of its tokens."""
    made = FastRequest._made

    def broken(self: FastRequest, output: Any, text: str) -> Any:
        return made(self, output, text + "!")

    monkeypatch.setattr(FastRequest, "_made", broken)


def test_the_two_clients_agree(running: Running) -> None:
    runner, engine, _ = running
    assert runner.run(differing(engine.client, engine._engine)) == []


def test_what_differs_is_named(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, engine, _ = running
    break_texts(monkeypatch)
    assert runner.run(differing(engine.client, engine._engine)) == [
        "a stream",
        "a stop string",
        "a whole answer",
    ]
    monkeypatch.undo()
    monkeypatch.setattr(LabelRequest, "_read", lambda self, found: 1 / 0)
    assert runner.run(differing(engine.client, engine._engine)) == ["a label read"]


def test_what_the_public_client_cannot_do_ends_the_start(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running

    async def fail(*_: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(StockEngine, "logprobs", fail)
    with pytest.raises(SelfCheckFailed, match="a label read fails: InvalidRequest: no such thing"):
        runner.run(differing(engine.client, engine._engine))


@pytest.mark.parametrize(
    ("message", "reason", "fails"),
    [
        ({"tool_calls": [{"function": {"name": "ping"}}]}, "tool_calls", False),
        ({"content": "I think"}, "length", False),
        ({"content": "ping"}, "stop", True),
    ],
)
def test_a_call_that_is_not_found_ends_the_start(
    message: dict[str, Any], reason: str, fails: bool
) -> None:
    async def chat(body: dict[str, Any]) -> dict[str, Any]:
        assert body["tool_choice"] == "required"
        return {"choices": [{"message": message, "finish_reason": reason}]}

    if not fails:
        asyncio.run(check_calls(chat, "m"))
        return
    with pytest.raises(SelfCheckFailed, match="a call of a tool is not found"):
        asyncio.run(check_calls(chat, "m"))


@pytest.mark.parametrize(
    ("error", "fails"),
    [
        (DeadlineExceeded("slow"), False),
        (InvalidRequest("too long", code="context_length_exceeded"), False),
        (InvalidRequest("no such field"), True),
    ],
)
def test_a_call_for_which_there_is_no_time_or_room_does_not(error: Exception, fails: bool) -> None:
    async def chat(body: dict[str, Any]) -> dict[str, Any]:
        raise error

    with pytest.raises(SelfCheckFailed) if fails else nullcontext():
        asyncio.run(check_calls(chat, "m"))


def test_a_client_that_differs_is_used_no_more(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running

    async def answer() -> str:
        enter_context(internal_context("test", 600.0))
        prompt = await engine.render("Once")
        return "".join(
            [
                delta.text
                async for chunk in engine.generate(prompt, GREEDY, None)
                for delta in chunk.deltas
            ]
        )

    wanted = runner.run(answer())
    break_texts(monkeypatch)
    assert runner.run(answer()) != wanted
    runner.run(engine.warm_up())
    assert engine.model.client == "stock"
    (note,) = engine.model.client_notes
    assert note.endswith("otherwise: a stream, a stop string, a whole answer")
    assert isinstance(engine._engine, FastEngine)
    assert runner.run(answer()) == wanted
    assert engine.openai is not None
    assert engine.openai.plain_chats is None
