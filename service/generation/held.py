"""Text of an answer that is held until a guard has read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from service.common.aio import together
from service.context.answer_guard import AnswerGuard
from service.generation.sentences import complete


@dataclass(slots=True)
class _Held:
    text: str = ""
    ended: bool = False
    since: float = field(default_factory=monotonic)


class HeldTexts:
    """Holds the new text of each sequence of an answer until a guard has read its sentences.

    With `tokens` the caller sees the tokens of released text, so all text is released at once, when
    every sequence has a complete sentence. `structured` is as in `AnswerGuard`.
    """

    def __init__(self, guard: AnswerGuard, *, tokens: bool, structured: bool) -> None:
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
        """Have the guard read what it can; returns the text to send now, by sequence.

        Raises as `AnswerGuard.read`.
        """
        taken = {index: self._take(index) for index in list(self._held)}
        read = await together(self._read(each) for each in taken.values())
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
