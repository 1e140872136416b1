"""Lines of an input file, each of which describes one request, and the calls that answer them."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from service.common.error_messages import quote
from service.errors import InvalidRequest
from service.limits.caps import excess
from service.plugins.batches.store import Answer, Batch, Problem
from service.runtime.parts import Call, Reply
from service.tenants.tenant import Tenant, Tier

_CHUNK_BYTES = 64 * 1024
_BUFFER_BYTES = 16 * 1024
_MOST_ID_BYTES = 512
_METHOD = "POST"
_TEMPORARY = (429, 503, 504)
"""Statuses of refusals that are temporary if they have Retry-After."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request of an input file: its line number, from 1, its name and its body.

    The body is JSON text with the tier flex, or an error if the line asks for another tier. It is
    kept as text, because parsed it would take twenty times as much memory.
    """

    number: int
    custom_id: str
    body: bytes | InvalidRequest


async def read_lines(
    path: Path, max_bytes: int | None = None
) -> AsyncGenerator[list[tuple[int, bytes]], None]:
    """The file's lines with their numbers, without empty lines, a few at a time; read in a thread.

    A line of more than `max_bytes` bytes is the last one, and is cut to `max_bytes + 1` bytes.
    """
    cut = -1 if max_bytes is None else max_bytes + 1
    chunk = _Chunk([], 0, 1, ended=False)
    while not chunk.ended:
        chunk = await asyncio.to_thread(_read, path, chunk.offset, chunk.number, cut)
        if chunk.lines:
            yield chunk.lines


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Lines with their numbers, and where the next chunk begins: its first byte and line."""

    lines: list[tuple[int, bytes]]
    offset: int
    number: int
    ended: bool


def _read(path: Path, offset: int, number: int, cut: int) -> _Chunk:
    lines, size = list[tuple[int, bytes]](), 0
    # Opened for each chunk, so that a cancelled task leaves no file open.
    with BufferedReader(path.open("rb", buffering=0), _BUFFER_BYTES) as file:
        file.seek(offset)
        while size < _CHUNK_BYTES and (line := file.readline(cut)):
            if line.isspace():
                number += line.endswith(b"\n") + _skip_blank(file)
                continue
            lines.append((number, line))
            number += 1
            size += len(line)
            if len(line) == cut:
                return _Chunk(lines, file.tell(), number, ended=True)
        return _Chunk(lines, file.tell(), number, ended=size < _CHUNK_BYTES)


def _skip_blank(file: "BufferedReader[Any]") -> int:
    """Move to the next byte that is not white space; returns the number of line ends before it."""
    ends = 0
    while block := file.peek():
        blank = len(block) - len(block.lstrip())
        ends += block.count(b"\n", 0, blank)
        file.read(blank)
        if blank < len(block):
            break
    return ends


def parse_lines(
    lines: Iterable[tuple[int, bytes]], endpoint: str, max_bytes: int | None
) -> list[Line | Problem]:
    """Parse numbered lines by `parse_line`."""
    return [parse_line(number, raw, endpoint, max_bytes) for number, raw in lines]


def parse_line(
    number: int, raw: bytes, endpoint: str, max_bytes: int | None = None
) -> Line | Problem:
    """Parse a line to its request, or to a problem with an error code of OpenAI's batches.

    Without `max_bytes` the line may be of any size and depth.
    """

    def problem(code: str, message: str, param: str | None = None) -> Problem:
        return Problem(code, message, number, param)

    if max_bytes is not None and len(raw) > max_bytes:
        message = f"A line may have at most {max_bytes} bytes, and this one has more."
        return problem("line_too_long", message)
    if max_bytes is not None and (bound := excess(raw)) is not None:
        return problem("invalid_body", f"A line may have {bound}, and this one has more.")
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return problem("invalid_json_line", f"This is not valid JSON: {error}")
    if not isinstance(value, dict):
        return problem("invalid_json_line", "A line must be a JSON object.")
    name, body = value.get("custom_id"), value.get("body")
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= _MOST_ID_BYTES:
        message = f"custom_id must be a text of 1 to {_MOST_ID_BYTES} bytes, got {quote(name)}"
        return problem("invalid_custom_id", message, "custom_id")
    if value.get("method") != _METHOD:
        message = f"method must be {_METHOD}, got {quote(value.get('method'))}"
        return problem("invalid_method", message, "method")
    if value.get("url") != endpoint:
        message = f"url must be the batch's endpoint {endpoint}, got {quote(value.get('url'))}"
        return problem("mismatched_url", message, "url")
    if not isinstance(body, dict):
        return problem("invalid_body", "body must be a JSON object.", "body")
    return Line(number, name, _as_flex(body))


def _as_flex(body: dict[str, Any]) -> bytes | InvalidRequest:
    if body.get("stream"):
        message = "stream: the answers of a batch come whole, got true"
        return InvalidRequest(message, param="stream")
    tier = body.get("service_tier")
    if tier not in (None, "auto", Tier.FLEX):
        message = f"service_tier: the lines of a batch are flex, got {quote(tier)}"
        return InvalidRequest(message, param="service_tier")
    return to_json(body | {"service_tier": str(Tier.FLEX)})


def render_answer(batch_id: str, line: Line, status: int, body: bytes) -> bytes:
    """The line of an output or error file with the answer to a request, whose body is JSON."""
    name = request_name(batch_id, line.number)
    # The body is JSON already, and is parsed only if it has several lines.
    body = to_json(from_json(body)) if b"\n" in body else body
    head = to_json({"id": name, "custom_id": line.custom_id}).removesuffix(b"}")
    response = b'{"status_code":%d,"request_id":%b,"body":%b}' % (status, to_json(name), body)
    return head + b',"response":' + response + b',"error":null}\n'


def render_error(batch_id: str, line: Line, code: str, message: str) -> bytes:
    """The line of an error file for a request that was never answered."""
    value = {
        "id": request_name(batch_id, line.number),
        "custom_id": line.custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
    return to_json(value) + b"\n"


def request_name(batch_id: str, number: int) -> str:
    """The request id of a line, which is also in the log."""
    return f"batch_req_{batch_id.removeprefix('batch_')}_{number}"


@dataclass(frozen=True, slots=True)
class TryLater:
    """A temporary refusal of a line: its batch sends no more lines for this many seconds."""

    seconds: float
    status: int


async def answer_line(
    call: Call, tenant: Tenant, batch: Batch, line: Line, timeout_s: float
) -> Answer | TryLater:
    """Answer a line within `timeout_s`, or within the longest time that a request may have."""
    name = request_name(batch.id, line.number)
    if isinstance(line.body, InvalidRequest):
        reply = Reply(line.body.status, to_json(line.body.body(name)))
    else:
        reply = await call(tenant, batch.endpoint, line.body, request_id=name, timeout_s=timeout_s)
    if reply.retry_after is not None and reply.status in _TEMPORARY:
        return TryLater(reply.retry_after, reply.status)
    rendered = render_answer(batch.id, line, reply.status, reply.body)
    return Answer(line.number, reply.status >= 400, rendered)
