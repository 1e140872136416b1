"""Sentences of a text that is read piece by piece, also while it is being written."""

import re

LEAST = 24
"""Characters of a piece, unless it is the last: a shorter sentence goes with the next."""
MOST = 400
"""Most characters of a piece: a longer sentence is cut, between words where there are any."""

_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\]]*+\s+"
    r"|[\u3002\uff01\uff1f]++\s*+|\n+"
)
"""Ends of sentences, among them the ideographic full stop and full-width marks; and of lines."""
_SPACE = re.compile(r"\s(?=\S*$)")


def sentences(text: str) -> list[str]:
    """The pieces of a text, which join to the text; the last one may lack its end."""
    pieces, begin = [], 0
    while (end := _next_end(text, begin)) is not None:
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]] if begin < len(text) else pieces


def complete(text: str) -> int:
    """Number of characters in the first pieces of a text that further text cannot lengthen."""
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
