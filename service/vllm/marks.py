"""Parts of a streamed answer in which a mark's token and its text come together."""

from collections.abc import Mapping, Sequence


class InStep:
    """Holds back tokens whose text has not come yet, from the first mark on.

    `marks` are the texts of the tokens that a parser looks for. An answer's text falls behind its
    tokens while its end could begin a `stop`, or a character needs more tokens.
    """

    def __init__(self, marks: Mapping[int, str]) -> None:
        self._marks = marks
        self._text = ""
        self._ids: list[int] = []

    def next(self, text: str, ids: Sequence[int], *, last: bool) -> tuple[str, list[int]]:
        """The text and the tokens that go on now; with the `last` part all that is left."""
        self._text += text
        self._ids += ids
        shown, known = (len(self._text), len(self._ids)) if last else self._ready()
        given = self._text[:shown], self._ids[:known]
        self._text, self._ids = self._text[shown:], self._ids[known:]
        return given

    def _ready(self) -> tuple[int, int]:
        """Numbers of characters and tokens before the first mark whose text is not complete."""
        begin = 0
        for place, token_id in enumerate(self._ids):
            mark = self._marks.get(token_id)
            if mark is None:
                continue
            found = self._text.find(mark, begin)
            if found < 0:
                return len(self._text) - _begun(self._text[begin:], mark), place
            begin = found + len(mark)
        return len(self._text), len(self._ids)


def _begun(text: str, mark: str) -> int:
    """Number of the last characters with which a mark may have begun."""
    most = min(len(text), len(mark) - 1)
    return next((size for size in range(most, 0, -1) if mark.startswith(text[-size:])), 0)
