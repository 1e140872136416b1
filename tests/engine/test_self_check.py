"""The check before the service is ready: what comes out of the fast client and of the public."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from service.context import enter_context, internal_context
from service.engine.contract import Job, Output, Part, Sampling, Sink
from service.errors import DeadlineExceeded, InvalidRequest
from service.generation.fold import Fold
from service.vllm.fast.engine import FastEngine
from service.vllm.fast.request import FastRequest, LabelRequest
from service.vllm.self_check import SelfCheckFailed, check_calls, differing
from service.vllm.served import VllmModel
from service.vllm.stock import StockEngine
from tests.engine.in_process import Running, engine_of, running_engine
from tests.fake_engines import fake_engine
from tools.fake_engine import FakeModel, FakeStructures

GREEDY = Sampling(max_tokens=6, temperature=0.0)


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=8, client="fast") as engine:
        yield engine


async def differences(model: VllmModel) -> list[str]:
    """What the check finds on the prompt that a start takes."""
    return await differing(engine_of(model), model.encode("Hello"))


def break_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the fast client hand on other texts than those of its tokens."""
    made = FastRequest._made

    def broken(self: FastRequest, output: Any, text: str) -> Any:
        return made(self, output, text + "!")

    monkeypatch.setattr(FastRequest, "_made", broken)


def test_the_two_clients_agree(running: Running) -> None:
    runner, engine, _ = running
    assert runner.run(differences(engine)) == []


def test_what_differs_is_named(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, engine, _ = running
    break_texts(monkeypatch)
    assert runner.run(differences(engine)) == [
        "a stream",
        "a stop string",
        "a whole answer",
    ]
    monkeypatch.undo()
    monkeypatch.setattr(LabelRequest, "_read", lambda self, found: 1 / 0)
    assert runner.run(differences(engine)) == ["a label read"]


def test_what_the_public_client_cannot_do_ends_the_start(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running

    async def fail(*_: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(StockEngine, "logprobs", fail)
    with pytest.raises(SelfCheckFailed, match="a label read fails: ValueError: no such thing"):
        runner.run(differences(engine))


def model_that_writes(answer: str | Exception, reason: str = "stop") -> FakeModel:
    """A model whose answer to each chat is this one, or fails."""

    class Uncompiled(FakeStructures):
        @asynccontextmanager
        async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
            assert sampling.structure is not None  # a call is demanded
            yield sampling

    model, _ = fake_engine(structures=lambda _: Uncompiled())

    async def run(job: Job, sink: Sink) -> None:
        if isinstance(answer, Exception):
            raise answer
        sink.take(Output([Part(0, answer, [1], reason)], len(job.prompt)))

    model.raw.run = run  # type: ignore[method-assign]
    return model


CALL = json.dumps({"name": "ping", "arguments": {}})
OTHER = json.dumps({"name": "pong", "arguments": {}})


@pytest.mark.parametrize(
    ("written", "reason", "fails"),
    [
        (f"<call>{CALL}</call>", "stop", False),
        ("I think", "length", False),
        ("ping", "stop", True),
        (f"<call>{OTHER}</call>", "stop", True),
    ],
)
async def test_a_call_that_is_not_found_ends_the_start(
    written: str, reason: str, fails: bool
) -> None:
    model = model_that_writes(written, reason)
    with (
        pytest.raises(SelfCheckFailed, match="a call of a tool is not found")
        if fails
        else (nullcontext())
    ):
        await check_calls(model)


@pytest.mark.parametrize(
    ("error", "fails"),
    [
        (DeadlineExceeded("slow"), False),
        (InvalidRequest("too long", code="context_length_exceeded"), False),
        (InvalidRequest("no such field"), True),
    ],
)
async def test_a_call_for_which_there_is_no_time_or_room_does_not(
    error: Exception, fails: bool
) -> None:
    with pytest.raises(SelfCheckFailed) if fails else nullcontext():
        await check_calls(model_that_writes(error))


def test_a_client_that_differs_is_used_no_more(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, engine, _ = running

    async def answer() -> str:
        enter_context(internal_context("test", 600.0))
        prompt, fold = await engine.render("Once"), Fold()
        await engine.run(Job(prompt, GREEDY), fold)
        return fold.whole()[0].text

    wanted = runner.run(answer())
    break_texts(monkeypatch)
    assert runner.run(answer()) != wanted
    assert isinstance(engine_of(engine), FastEngine)
    assert engine.model.client == "fast"
    runner.run(engine.warm_up())
    assert engine.model.client == "stock"
    (note,) = engine.model.client_notes
    assert note.endswith("otherwise: a stream, a stop string, a whole answer")
    assert runner.run(answer()) == wanted
