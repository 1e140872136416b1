"""Raw bytes on the socket: segments, pipelines, chunks, trailers, upgrades and plain nonsense.

Answers are read by h11, an HTTP implementation that the service does not use.
"""

import asyncio
import json
import random
from collections import Counter

import h11

_BODY = json.dumps({"model": "tiny", "prompt": "Hello"}).encode()
_HEAD = b"POST /v1/tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_ODD_HEADERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: a miracle\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Host: elsewhere\r\n",
    b"X-Long: " + b"a" * 70_000 + b"\r\n",
    b"X-Many: a\r\n" * 300,
    b"X-\x00: a\r\n",
    b"X-Folded: a\r\n b\r\n",
    b"Authorization: Bearer sk-\xff\xfe\r\n",
    b"Content-Type: text/plain\r\n",
]
_NONSENSE = [
    b"\r\n\r\n\r\n", b"\x00" * 64, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
    b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%ff%00/../.. HTTP/1.0\r\n\r\n",
]  # fmt: skip
_READ_SECONDS = 15.0


def sequence(seed: int, number: int) -> list[bytes]:
    """Byte sequence `number` of a seed, in the segments in which it is sent."""
    dice = random.Random(f"wire.{seed}.{number}")
    data = b"".join(_message(dice) for _ in range(dice.choice([1, 1, 1, 2, 3, 12])))
    if dice.random() < 0.2:
        at = dice.randrange(len(data))
        data = data[:at] + dice.randbytes(dice.randint(1, 4)) + data[at + dice.randint(0, 4) :]
    if dice.random() < 0.1:
        data = data[: dice.randrange(1, len(data))]
    cuts = sorted(dice.sample(range(1, len(data)), min(dice.choice([0, 1, 5, 20]), len(data) - 1)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def fuzz(host: str, port: int, sequences: int, seed: int, *, every: int = 0) -> Counter[str]:
    """Send the sequences, read the answers, count their statuses; a line for each `every`.

    Raises AssertionError, with the number and seed as a note, for an answer that is no HTTP and for
    a 5xx.
    """
    outcomes: Counter[str] = Counter()
    numbers = iter(range(sequences))
    done = 0

    async def work() -> None:
        nonlocal done
        for number in numbers:
            try:
                outcomes.update(await _exchange(host, port, sequence(seed, number)))
            except Exception as failure:
                failure.add_note(f"byte sequence {number} of seed {seed}")
                raise
            done += 1
            if every and done % every == 0:
                print(f"    {done} of {sequences} byte sequences", flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(work())
    return outcomes


def statuses(raw: bytes) -> list[int]:
    """The statuses of the answers in these bytes; AssertionError if they are not HTTP."""
    found: list[int] = []
    while raw:
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        parser.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(raw)
        raw = _one_answer(parser, found)
    return found


def _one_answer(parser: h11.Connection, found: list[int]) -> bytes:
    """Read one answer and return the bytes behind it.

    A body that a closed connection cuts is accepted, and so is a `100 Continue` alone.
    """
    begun = False
    while True:
        event = parser.next_event()
        begun = begun or isinstance(event, h11.InformationalResponse | h11.Response)
        if event is h11.NEED_DATA:
            assert begun, "bytes that are no answer"
            return b""
        if isinstance(event, h11.Response):
            found.append(event.status_code)
        if isinstance(event, h11.EndOfMessage):
            return bytes(parser.trailing_data[0])
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return bytes(parser.trailing_data[0])


async def _exchange(host: str, port: int, segments: list[bytes]) -> list[str]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        try:
            for segment in segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
        except OSError:
            pass  # refused and closed before all was sent
        raw = await _all(reader)
    finally:
        writer.close()
    try:
        found = statuses(raw)
    except h11.RemoteProtocolError as error:
        raise AssertionError(f"no HTTP: {raw[:200]!r}") from error
    assert all(status < 500 for status in found), raw[:400]
    return [str(status) for status in found] or ["closed without an answer"]


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes, or has been silent for seconds."""
    raw = b""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while chunk := await reader.read(65_536):
                raw += chunk
    except (TimeoutError, ConnectionError):
        pass
    return raw


def _message(dice: random.Random) -> bytes:
    if dice.random() < 0.1:
        return dice.choice(_NONSENSE)
    headers = b"".join(dice.sample(_ODD_HEADERS, dice.choice([0, 0, 0, 1, 1, 2])))
    if dice.random() < 0.15:
        return b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
    if dice.random() < 0.5:
        return _HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
    return _HEAD + headers + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(dice)


def _chunked(dice: random.Random) -> bytes:
    size = dice.choice([1, 7, len(_BODY)])
    extension = dice.choice([b"", b"", b";a=b", b';q="' + b"c" * 500 + b'"'])
    chunks = [_BODY[at : at + size] for at in range(0, len(_BODY), size)]
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(each), extension, each) for each in chunks)
    trailers = b"".join(dice.choices([b"X-After: a\r\n", b"Authorization: Bearer b\r\n"], k=2))
    return body + b"0\r\n" + dice.choice([b"", b"", trailers, trailers * 200]) + b"\r\n"
