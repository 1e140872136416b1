"""An answer that a guard reads before it is handed on."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from service.engine.contract import Output, Part, Sink, TextSink
from service.generation.held import HeldTexts


async def run_guarded(
    run: Callable[[Sink], Coroutine[Any, Any, None]], sink: Sink, texts: HeldTexts
) -> None:
    """Run a generation into a sink, which takes the outputs that the guard has read, as they come.

    The engine waits for no guard: its place at the gate goes back once it has made the answer, so a
    guard that needs one itself cannot wait for this request. Raises what `AnswerGuard.read` raises.
    """
    inbox = _Inbox(whole=sink.restart is not None)
    task = asyncio.create_task(run(inbox))
    task.add_done_callback(lambda _: inbox.came.set())
    held: Output | None = None
    try:
        while (output := await inbox.next(task)) is not None:
            for part in output.parts:
                texts.add(part.index, part.text, ended=part.finish_reason is not None)
            held = joined(held, output)
            if texts.ready:
                released = await texts.released()
                for part in held.parts:
                    part.text = released.get(part.index, "")
                sink.take(held)
                held = None
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Inbox:
    """Takes the outputs of a running generation; a `whole` answer comes as one output."""

    def __init__(self, *, whole: bool) -> None:
        self.restart: Callable[[], None] | None = self._forget if whole else None
        self.came = asyncio.Event()
        self._whole = whole
        self._held: Output | None = None

    def take(self, output: Output) -> TextSink | None:
        self._held = joined(self._held, output)
        self.came.set()
        return None

    async def next(self, task: "asyncio.Task[None]") -> Output | None:
        """The outputs that came, as one; None once the generation has ended and all are taken.

        Raises the failure of a generation whose answer must be whole.
        """
        while self._held is None or (self._whole and not task.done()):
            if task.done():
                return None
            await self.came.wait()
            self.came.clear()
        if self._whole:
            task.result()  # no guard reads an answer that failed
        held, self._held = self._held, None
        return held

    def _forget(self) -> None:
        self._held = None


def joined(first: Output | None, second: Output) -> Output:
    """Two outputs of a job as one."""
    if first is None:
        return replace(second, parts=[_copy(each) for each in second.parts])
    parts = {part.index: part for part in first.parts}
    for part in second.parts:
        known = parts.get(part.index)
        parts[part.index] = _copy(part) if known is None else _longer(known, part)
    first.parts = list(parts.values())
    first.prompt_logprobs = second.prompt_logprobs or first.prompt_logprobs
    return first


def _copy(part: Part) -> Part:
    logprobs = None if part.logprobs is None else list(part.logprobs)
    return replace(part, token_ids=list(part.token_ids), logprobs=logprobs)


def _longer(part: Part, more: Part) -> Part:
    """A copied part with more of its sequence."""
    assert isinstance(part.token_ids, list)
    part.text += more.text
    part.token_ids += more.token_ids
    part.finish_reason, part.stop_reason = more.finish_reason, more.stop_reason
    if more.logprobs is not None:
        assert isinstance(part.logprobs, list)
        part.logprobs += more.logprobs
    return part
