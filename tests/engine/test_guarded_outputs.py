"""Outputs that a guard reads: put together, refused, and apart from the end of the run."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from service.engine.contract import Output, Part, Sink, TextSink
from service.errors import OutputFlagged
from service.plugins.guards.held import HeldTexts, run_guarded
from tests.plugins.guards.shouting import Shouting
from tests.plugins.guards.test_held import FIRST, SECOND


def output(text: str, *, finished: bool = False) -> Output:
    return Output([Part(0, text, [1], "stop" if finished else None)], prompt_tokens=1)


class Taken:
    """Takes what the guard has read; a `whole` answer may begin again."""

    def __init__(self, *, whole: bool = False) -> None:
        self.parts: list[Part] = []
        self.restart: Callable[[], None] | None = self.parts.clear if whole else None

    def take(self, output: Output) -> TextSink | None:
        self.parts.extend(output.parts)
        return None


async def run(pieces: list[str], seen: list[str], inbox: Sink) -> None:
    """Make an answer of these pieces."""
    try:
        for number, piece in enumerate(pieces, 1):
            inbox.take(output(piece, finished=number == len(pieces)))
            await asyncio.sleep(0)
        seen.append("written")
    except asyncio.CancelledError:
        seen.append("aborted")
        raise


async def read(pieces: list[str], seen: list[str], sink: Sink) -> None:
    texts = HeldTexts(Shouting(), tokens=False, structured=False)
    await run_guarded(partial(run, pieces, seen), sink, texts)


@pytest.mark.parametrize("whole", [False, True])
async def test_the_guards_text_is_handed_on_with_all_tokens(whole: bool) -> None:
    pieces, taken = [*FIRST, *SECOND, "end"], Taken(whole=whole)
    await read(pieces, [], taken)
    assert "".join(part.text for part in taken.parts) == (FIRST + SECOND + "end").upper()
    assert sum(len(part.token_ids) for part in taken.parts) == len(pieces)
    ends = [part.finish_reason for part in taken.parts]
    assert ends == [None] * (len(taken.parts) - 1) + ["stop"]
    assert (len(taken.parts) == 1) == whole


async def test_a_refusal_ends_the_run_after_what_was_clear() -> None:
    seen: list[str] = []
    taken = Taken()
    with pytest.raises(OutputFlagged):
        await read([*FIRST, *"This is the secret of it all. ", *SECOND], seen, taken)
    assert [part.text for part in taken.parts] == [FIRST.upper()]
    assert seen == ["aborted"]


async def test_the_run_ends_while_its_outputs_wait() -> None:
    seen, made = list[str](), asyncio.Event()

    class Slow(Shouting):
        """A guard that reads once the answer is made: until then it would wait for its place."""

        async def read(self, text: str, *, structured: bool) -> str:
            await made.wait()
            assert seen == ["written"]
            return await super().read(text, structured=structured)

    async def make(inbox: Sink) -> None:
        await run([FIRST + "x", SECOND], seen, inbox)
        made.set()

    taken = Taken()
    await run_guarded(make, taken, HeldTexts(Slow(), tokens=False, structured=False))
    assert taken.parts[0].text == FIRST.upper()
    assert taken.parts[-1].finish_reason == "stop"


async def test_a_whole_answer_that_begins_again_is_read_once() -> None:
    guard, taken = Shouting(), Taken(whole=True)

    async def twice(inbox: Sink) -> None:
        inbox.take(output(FIRST))
        assert inbox.restart is not None
        inbox.restart()
        await run(["again"], [], inbox)

    await run_guarded(twice, taken, HeldTexts(guard, tokens=False, structured=False))
    assert [part.text for part in taken.parts] == ["AGAIN"]
    assert [text for text, _ in guard.read_texts] == ["again"]
