"""Newline-delimited JSON (https://github.com/ndjson/ndjson-spec): a value a line, as they come."""

from collections.abc import AsyncGenerator

from pydantic_core import to_json

from service.api.sse import EventStream

MEDIA_TYPE = "application/x-ndjson"


def line(value: object) -> bytes:
    """One line that holds the value's JSON."""
    return to_json(value) + b"\n"


async def line_stream(lines: AsyncGenerator[bytes, None]) -> "LineStream":
    """An answer that streams these lines; waits for the first, whose refusal keeps its status."""
    return LineStream(await anext(lines), lines)


class LineStream(EventStream):
    """An `EventStream` of lines."""

    media_type = MEDIA_TYPE

    def rendered(self, name: str | None, value: object) -> bytes:
        """A line, which has no name."""
        return line(value)
