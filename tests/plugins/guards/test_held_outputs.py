"""An answer that a guard reads before it is handed on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from loadtests.processes import eventually
from service.engine.contract import Output, Part, Sink, TextSink
from service.errors import EngineDead, OutputFlagged
from service.generation.fold import Fold
from service.plugins.guards.held import HeldTexts, joined, run_guarded
from tests.plugins.guards.shouting import Shouting
from tests.plugins.guards.test_held import FIRST, SECOND
from tools.fake_engine import FakeLikely

PLACE = {1: FakeLikely(-0.5, "a")}


class Outputs:
    """A sink of outputs as they come."""

    restart = None

    def __init__(self) -> None:
        self.taken: list[Output] = []

    def take(self, output: Output) -> TextSink | None:
        self.taken.append(output)
        return None

    @property
    def texts(self) -> list[str]:
        return [part.text for output in self.taken for part in output.parts]


class SlowGuard(Shouting):
    """A guard that reads when it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def read(self, text: str, *, structured: bool) -> str:
        await self.go.wait()
        return await super().read(text, structured=structured)


def answer(
    *texts: str, failure: Exception | None = None, times: int = 1
) -> Callable[[Sink], Awaitable[None]]:
    """A generation of so many texts, a token each; it begins again until it was made `times`."""

    async def run(sink: Sink) -> None:
        for time in range(times):
            for number, text in enumerate(texts):
                await asyncio.sleep(0)
                reason = "stop" if number == len(texts) - 1 else None
                sink.take(Output([Part(0, text, [number], reason)], 7, 5))
            if time < times - 1:
                assert sink.restart is not None
                sink.restart()
        if failure is not None:
            raise failure

    return run


async def guarded(
    run: Callable[[Sink], Awaitable[None]],
    sink: Sink,
    guard: Shouting | None = None,
    *,
    tokens: bool = False,
) -> None:
    texts = HeldTexts(guard or Shouting(), tokens=tokens, structured=False)
    await run_guarded(run, sink, texts)  # type: ignore[arg-type]


async def test_a_streamed_answer_is_handed_on_sentence_by_sentence() -> None:
    outputs, guard = Outputs(), Shouting()
    await guarded(answer(*(FIRST + SECOND)), outputs, guard)
    assert "".join(outputs.texts) == (FIRST + SECOND).upper()
    assert [text for text, _ in guard.read_texts] == [FIRST, SECOND]
    ids = [token for output in outputs.taken for part in output.parts for token in part.token_ids]
    assert ids == list(range(len(FIRST + SECOND)))
    last = outputs.taken[-1]
    assert (last.parts[0].finish_reason, last.prompt_tokens, last.cached_tokens) == ("stop", 7, 5)


async def test_a_whole_answer_is_read_once_and_what_was_lost_never() -> None:
    fold, guard = Fold(), Shouting()
    await guarded(answer(FIRST, SECOND, times=2), fold, guard)
    assert fold.whole()[0].text == (FIRST + SECOND).upper()
    assert fold.tokens == 2
    assert guard.read_texts == [(FIRST + SECOND, False)]


async def test_the_engine_waits_for_no_guard() -> None:
    outputs, guard = Outputs(), SlowGuard()
    ended = asyncio.Event()

    async def run(sink: Sink) -> None:
        await answer(FIRST, SECOND, "end")(sink)
        ended.set()

    task = asyncio.create_task(guarded(run, outputs, guard))
    await eventually(ended.is_set)
    assert (outputs.taken, task.done()) == ([], False)
    guard.go.set()
    await task
    assert "".join(outputs.texts) == (FIRST + SECOND).upper() + "END"


async def test_no_part_of_a_flagged_sentence_is_handed_on_and_the_engine_stops() -> None:
    outputs, cancelled = Outputs(), asyncio.Event()

    async def run(sink: Sink) -> None:
        try:
            sink.take(Output([Part(0, FIRST, [1])], 7))
            await asyncio.sleep(0.01)
            sink.take(Output([Part(0, "This is a secret for you. And", [2])], 7))
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(OutputFlagged):
        await guarded(run, outputs)
    assert outputs.texts == [FIRST.upper()]
    assert cancelled.is_set()


async def test_cancelling_who_asks_stops_the_engine_too() -> None:
    running = asyncio.Event()
    ended: list[bool] = []

    async def run(_: Sink) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(guarded(run, Outputs()))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_failure_of_the_engine_is_raised(whole: bool) -> None:
    sink: Fold | Outputs = Fold() if whole else Outputs()
    with pytest.raises(EngineDead):
        await guarded(answer(failure=EngineDead("ended")), sink)


async def test_no_guard_reads_a_whole_answer_that_failed() -> None:
    guard = Shouting()
    with pytest.raises(EngineDead):
        await guarded(answer("a secret", failure=EngineDead("ended")), Fold(), guard)
    assert guard.read_texts == []


async def test_where_tokens_are_told_they_come_with_their_text() -> None:
    outputs = Outputs()
    await guarded(answer(FIRST[:5], FIRST[5:], "end"), outputs, tokens=True)
    told = [(part.text, part.token_ids) for output in outputs.taken for part in output.parts]
    assert "".join(text for text, _ in told) == FIRST.upper() + "END"
    assert all(text for text, _ in told)
    assert [token for _, ids in told for token in ids] == [0, 1, 2]


def test_outputs_are_joined_by_sequence_and_none_is_changed() -> None:
    first = Output([Part(0, "a", [1], logprobs=[PLACE])], 7, 5, prompt_logprobs=[None])
    second = Output(
        [Part(1, "x", [2], "stop", 3), Part(0, "b", [4], "length", logprobs=[PLACE])], 7
    )
    kept = replace(first, parts=[replace(part) for part in first.parts])
    both = joined(joined(None, first), second)
    assert both.parts == [
        Part(0, "ab", [1, 4], "length", None, [PLACE, PLACE]),
        Part(1, "x", [2], "stop", 3),
    ]
    assert (both.cached_tokens, both.prompt_logprobs) == (5, [None])
    assert first == kept
    assert second.parts[0].token_ids == [2]
