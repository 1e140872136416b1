"""Answers whose text is held until a guard has read its sentences."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from service.common.aio import gather
from service.engine.contract import Output, Part, Sampling, Sink, TextSink

Run = Callable[[Sink], Coroutine[Any, Any, None]]

LEAST = 24
"""Least characters of a piece, except the last: a shorter sentence is joined with the next."""
MOST = 400
"""Most characters of a piece: a longer sentence is cut, between words where there are any."""

_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\]]*+\s+"
    r"|[\u3002\uff01\uff1f]++\s*+|\n+"
)
"""Ends of sentences, among them the ideographic full stop and full-width marks; and of lines."""
_SPACE = re.compile(r"\s(?=\S*$)")


def sentences(text: str) -> list[str]:
    """Split a text into sentences, which join to the text; the last one may be unfinished."""
    pieces, begin = [], 0
    while (end := _next_end(text, begin)) is not None:
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]] if begin < len(text) else pieces


def complete(text: str) -> int:
    """Length of the leading sentences of a text that further text cannot change."""
    end = 0
    while (further := _next_end(text, end)) is not None:
        end = further
    return end


def _next_end(text: str, begin: int) -> int | None:
    limit = begin + MOST
    for match in _END.finditer(text, begin, limit):
        if match.end() - begin >= LEAST:
            return match.end()
    if len(text) <= limit:
        return None
    space = _SPACE.search(text, begin + LEAST, limit)
    return limit if space is None else space.end()


class TextGuard:
    """Reads the text of one request's answer, each sequence in order."""

    async def read(self, text: str, *, structured: bool) -> str:
        """Return the text to send in place of this one.

        No word of a `structured` answer may change. Raises OutputFlagged for a text that may not be
        sent, and the error of a guard that could not read it.
        """
        raise NotImplementedError

    def held(self, seconds: float) -> None:
        """Record how long a text was held, from its arrival to its verdict, in seconds."""
        raise NotImplementedError

    async def run(self, run: Run, sink: Sink, sampling: Sampling) -> None:
        """Run a generation into a sink that gets only text that was read; raises as `read`."""
        structured = sampling.structure is not None and sampling.structure.asked
        texts = HeldTexts(self, tokens=sampling.logprobs is not None, structured=structured)
        await run_guarded(run, sink, texts)


@dataclass(slots=True)
class _Held:
    text: str = ""
    ended: bool = False
    since: float = field(default_factory=monotonic)


class HeldTexts:
    """Holds the new text of each sequence of an answer until a guard has read its sentences.

    With `tokens` the answer also contains tokens, so all held text is released together when every
    sequence has a complete sentence. `structured` is as in `TextGuard.read`.
    """

    def __init__(self, guard: TextGuard, *, tokens: bool, structured: bool) -> None:
        self._guard = guard
        self._tokens = tokens
        self._structured = structured
        self._held: dict[int, _Held] = {}

    def add(self, index: int, text: str, *, ended: bool) -> None:
        """Hold more text of a sequence; `ended` is true for its last."""
        held = self._held.setdefault(index, _Held())
        held.text += text
        held.ended |= ended

    @property
    def ready(self) -> bool:
        """True if the guard can read some text now."""
        found = [each.ended or self._readable(each) > 0 for each in self._held.values()]
        return all(found) if self._tokens else any(found)

    async def released(self) -> Mapping[int, str]:
        """Have the guard read all complete sentences; returns the text to send now, by sequence.

        Raises as `TextGuard.read`.
        """
        taken = {index: self._take(index) for index in list(self._held)}
        read = await gather(self._read(each) for each in taken.values())
        return dict(zip(taken, read, strict=True))

    async def _read(self, taken: _Held) -> str:
        if not taken.text.strip():
            return taken.text
        text = await self._guard.read(taken.text, structured=self._structured)
        self._guard.held(monotonic() - taken.since)
        return text

    def _readable(self, held: _Held) -> int:
        """Number of characters that the guard can read now."""
        end = len(held.text) if held.ended else complete(held.text)
        return len(held.text) if end and self._tokens else end

    def _take(self, index: int) -> _Held:
        held = self._held.pop(index)
        end = self._readable(held)
        if end < len(held.text):
            self._held[index] = _Held(held.text[end:])
        return _Held(held.text[:end], since=held.since)


async def run_guarded(run: Run, sink: Sink, texts: HeldTexts) -> None:
    """Run a generation; the sink takes its outputs as the guard has read them.

    The engine does not wait for the guard: the request's slots are given back once the
    answer is generated. So a guard that needs slots of the same engine cannot deadlock with the
    request. Raises what `TextGuard.read` raises.
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
    """Collects the outputs of a running generation; a `whole` answer becomes one output."""

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
        """The outputs that arrived, merged; None once the generation has ended and all are taken.

        Raises the generation's failure if its answer must be whole.
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
    """Two outputs of a job merged into one."""
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
    """A copied part, extended by more of the same sequence."""
    assert isinstance(part.token_ids, list)
    part.text += more.text
    part.token_ids += more.token_ids
    part.finish_reason, part.stop_reason = more.finish_reason, more.stop_reason
    if more.logprobs is not None:
        assert isinstance(part.logprobs, list)
        part.logprobs += more.logprobs
    return part
