"""Server-sent events from timed lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A line as it was read, with the instant (seconds) at which its end had arrived.
Line = tuple[float, bytes]


@dataclass(frozen=True, slots=True)
class Event:
    """The data of one event and the instant at which it had arrived."""

    at: float
    data: bytes


def events(lines: Iterable[Line]) -> Iterator[Event]:
    """The events of a stream, in order.

    Follows the HTML standard's event stream: lines end in LF or CRLF, `:` starts a comment (a
    ping), several data lines are joined by LF, other fields are passed over, and an event that no
    empty line ends is dropped. Data stay bytes, so a character cut by a packet is whole again. A
    bare CR, which the standard also allows, ends no line: no LLM server sends it.
    """
    data: list[bytes] = []
    at = 0.0
    for instant, line in lines:
        line = line.rstrip(b"\r\n")
        if not line:
            if data:
                yield Event(at, b"\n".join(data))
                data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
            at = instant
