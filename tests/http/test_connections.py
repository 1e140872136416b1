"""Connections that never become a request, are too many, or never read their answer."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from starlette.responses import Response, StreamingResponse

from loadtests.processes import PATIENCE_S, eventually
from service.common.aio import beside
from service.http import connection
from service.http import connection as transport
from service.http import exchange as pushed_stream
from service.http import lifecycle as watch
from service.settings.admission import AdmissionSettings
from service.settings.tree import HttpSettings
from tests.http.raw_http import answers, question
from tests.live_service import LiveService

HEAD = b"POST /v1/generate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BODY = b'{"model": "fake", "prompt": "Tell me", "stream": true, "timeout_ms": 1000}'


async def ask(
    live: LiveService, sent: bytes, *, port: int | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Send bytes; the status line and the error that come back before the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or live.port)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert f"x-request-id: {error['request_id']}".encode() in head.lower()
    return head.split(b"\r\n")[0], error


async def test_a_head_that_never_ends_is_refused(service: LiveService) -> None:
    flood = b"x-flood: " + b"x" * (connection.MAX_HEAD_BYTES + 1)
    status, error = await ask(service, HEAD + flood)
    assert status.startswith(b"HTTP/1.1 431")
    assert error["code"] == "headers_too_large"


async def test_a_head_that_is_complete_and_too_large_is_refused(service: LiveService) -> None:
    many = b"".join(b"x-%d: %s\r\n" % (n, b"x" * 900) for n in range(80))
    status, error = await ask(service, HEAD + many + b"Content-Length: 0\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 431")
    assert "at most 65536 bytes, got 7" in error["message"]


async def test_a_head_of_very_many_headers_is_refused(service: LiveService) -> None:
    begun = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    most = begun + b"a:b\r\n" * (connection.MAX_HEADERS - 2)
    status, error = await ask(service, most + b"a:b\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 431")
    assert error["message"] == "headers: at most 256, got more"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(most + b"\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_long_query_is_refused_before_it_is_parsed(service: LiveService) -> None:
    async with service.client() as client:
        assert (await client.get(f"/health?{2048 * 'a&'}")).status_code == 200
        refused = await client.get(f"/health?{2048 * 'a&'}a")
    assert refused.status_code == 431
    assert refused.json()["error"]["message"] == "query: at most 4096 bytes, got 4097"


@pytest.mark.parametrize("sent", [b"", b"POST /v1/gen", HEAD])
async def test_a_head_that_is_late_is_refused(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.1)
    with LiveService() as live:
        status, error = await ask(live, sent)
    assert status.startswith(b"HTTP/1.1 408")
    assert error["code"] == "request_timeout"


async def test_one_connection_too_many_is_refused_and_the_others_are_served() -> None:
    with LiveService(http=HttpSettings(max_connections=2)) as live:
        held = [await asyncio.open_connection("127.0.0.1", live.port) for _ in range(2)]
        await eventually(lambda: len(live.connections) == 2)
        status, error = await ask(live, b"")
        assert status.startswith(b"HTTP/1.1 503")
        assert error["code"] == "too_many_connections"
        reader, writer = held[0]
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()
        refused = {"reason": "too_many_connections", "tenant": "anonymous"}
        assert live.value("inference_refusals_total", **refused) == 1


async def test_an_idle_connection_stays_open_for_as_long_as_is_set() -> None:
    with LiveService(http=HttpSettings(keep_alive_s=1)) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        for _ in range(2):
            asked = time.monotonic()
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        assert time.monotonic() - asked > 0.9
        writer.close()


async def test_a_client_that_takes_nothing_is_gone_long_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_BLOCKED_SECONDS", 0.2)
    monkeypatch.setattr(watch, "_LOOK_AGAIN_SECONDS", 0.1)
    with LiveService() as live:

        @live.app.get("/flood")
        async def flood() -> StreamingResponse:
            return StreamingResponse(more_than_buffers_take())

        _, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: live.outcomes()["cancelled"] == 1)
        writer.close()


async def more_than_buffers_take() -> AsyncGenerator[bytes, None]:
    for _ in range(64):
        yield b"x" * (1 << 20)


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_client_that_never_reads_its_answer_gives_its_slot_back(
    monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    monkeypatch.setattr(watch, "_UNREAD_SECONDS", 0.2)
    monkeypatch.setattr(watch, "_LOOK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(pushed_stream._AnswerWriter, "_write_later", _never_sent)
    monkeypatch.setattr(connection.BoundedConnection, "_blocked", lambda self: True)
    body = BODY.replace(b'"stream"', b'"n": %d, "stream"' % answers)
    with LiveService(admission=AdmissionSettings(max_in_flight=2)) as live:
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        # The head of the answer is sent with its first event, which waits here.
        await eventually(lambda: live.outcomes()["deadline"] == 1)
        assert live.idle()
        writer.close()


async def _never_sent(send: object, part: bytes) -> None:
    """Sending while the other side's window stays shut."""
    await asyncio.Event().wait()


HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = b'{"model": "fake", "prompt": "Tell me more", "stream": true, "max_tokens": 12}'
STREAMED = HEAD + b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM
DONE = b"data: [DONE]\n\n\r\n0\r\n\r\n"


async def received(live: LiveService, *segments: bytes) -> bytes:
    """All that comes back, to the end of the connection, for these segments."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    parts: list[bytes] = []

    async def read() -> None:
        with suppress(ConnectionError):  # dropped with bytes unread
            while part := await reader.read(65536):
                parts.append(part)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(read())
        with suppress(ConnectionError):
            for segment in segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0.02)
    writer.close()
    return b"".join(parts)


@asynccontextmanager
async def streaming() -> AsyncGenerator[
    tuple[LiveService, asyncio.StreamReader, asyncio.StreamWriter], None
]:
    """A service amid an answer that streams, which goes on once its engine is not frozen."""
    with LiveService() as live:
        live.engine.frozen, live.engine.spared = True, 2
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(STREAMED)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        yield live, reader, writer
        writer.close()


async def test_of_more_requests_than_may_wait_behind_another_the_rest_is_not_answered() -> None:
    with LiveService(token_seconds=0.05) as live:
        got = await received(live, STREAMED + HEALTH * 1000)
        await eventually(live.idle)
        refused = {"reason": "too_many_pipelined", "tenant": "anonymous"}
        assert live.value("inference_refusals_total", **refused) == 1
    streamed, _, others = got.partition(DONE)
    assert (streamed.count(b"HTTP/1.1"), others.count(b"HTTP/1.1 200")) == (1, 8)
    assert others.lower().count(b"connection: close") == 1


async def test_as_many_as_may_wait_are_answered(service: LiveService) -> None:
    names = [f"{number}" for number in range(connection.MAX_PIPELINED)]
    asked = b"".join(question(name, "x") for name in names)
    got = await received(service, asked + question("last", "x", "Connection: close"))
    assert [each.request_id for each in answers(got)] == [*names, "last"]


async def test_a_client_that_leaves_with_a_request_waiting_frees_the_one_that_runs() -> None:
    with LiveService(token_seconds=0.05) as live:
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(STREAMED.replace(b"12}", b"400}").replace(b"77", b"78") + HEALTH)
        await eventually(lambda: live.admission.in_flight == 1)
        writer.close()
        await eventually(lambda: live.outcomes()["cancelled"] == 1)
        await eventually(live.idle)


async def test_a_trailer_is_no_header(service: LiveService) -> None:
    asked = question("ours", "x", "Connection: close", chunks=1).removesuffix(b"\r\n")
    got = await received(service, asked + b"X-Request-Id: theirs\r\nExpect: x\r\n\r\n")
    assert [(each.status, each.request_id) for each in answers(got)] == [(200, "ours")]


@pytest.mark.parametrize("flood", [b"x-t: y\r\n" * 4096, b"y" * 32768], ids=["fields", "value"])
async def test_trailers_without_end_end_the_connection(service: LiveService, flood: bytes) -> None:
    asked = question("q", "x", chunks=1).removesuffix(b"\r\n") + b"x-t: "
    assert b"HTTP/1.1 200" not in await received(service, asked, *[flood] * 8)


async def test_small_chunks_are_read_and_tiny_ones_without_end_are_not(
    service: LiveService,
) -> None:
    small = question("small", "x" * 200_000, "Connection: close", chunks=30_000)
    assert [each.request_id for each in answers(await received(service, small))] == ["small"]
    tiny = question("tiny", "x" * 200_000, "Connection: close", chunks=200_000)
    assert b"HTTP/1.1 200" not in await received(service, tiny)


async def test_a_waiting_request_may_not_pile_up_its_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_UNREAD_BYTES", 1024)
    with LiveService(token_seconds=0.05) as live:
        waiting = HEAD + b"Content-Length: 5000\r\n\r\n" + b" " * 2000
        got = await received(live, STREAMED + waiting)
    assert got.endswith(DONE)
    assert got.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("next_bytes", [b"G", b"\r\n"], ids=["half a head", "an empty line"])
async def test_a_late_head_waits_for_the_answer_that_streams(
    next_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streaming() as (live, reader, writer):
        monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.05)
        writer.write(next_bytes)
        await eventually(lambda: all(each._head_timer for each in live.connections))
        live.engine.frozen = False
        answer, _, after = (await reader.read()).partition(DONE)
    assert b"HTTP/1.1" not in answer
    assert after.startswith(b"HTTP/1.1 408")


async def test_bytes_that_are_no_request_do_not_write_into_the_answer_that_streams() -> None:
    async with streaming() as (live, reader, writer):
        writer.write(b"}")
        await eventually(lambda: not any(each._reads for each in live.connections))
        live.engine.frozen = False
        got = await reader.read()
    assert got.endswith(DONE)
    assert b"HTTP/1.1" not in got


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: xchunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_body_of_wrong_framing_is_refused_in_its_own_answer(
    service: LiveService, framing: bytes
) -> None:
    status, error = await ask(service, HEAD + framing)
    assert (status, error["code"]) == (b"HTTP/1.1 400 Bad Request", "invalid_http")


OWN = b"Host: a:80"
PORTS = ("public", "ops")


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost:",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c",
        b"GET / HTTP/1.1\r\nHost: [::1].evil.com",
        b"GET / HTTP/1.1\r\nHost: a, b",
        b"GET / HTTP/1.1\r\nHost: user@a",
        b"GET / HTTP/1.1\r\nHost: \xe9",
        b"GET http://b/ HTTP/1.1\r\n" + OWN,
        b"GET http://a/ HTTP/1.1\r\n" + OWN,
        b"GET http://user@a:80/ HTTP/1.1\r\n" + OWN,
        b"GET ftp://a:80/ HTTP/1.1\r\n" + OWN,
        b"GET http://a/ HTTP/1.0",
    ],
)
async def test_a_request_that_does_not_name_its_host_once_is_refused(
    service: LiveService, head: bytes, port: str
) -> None:
    at = service.port if port == "public" else httpx.URL(service.ops_url).port
    assert at is not None
    status, error = await ask(service, head + b"\r\n\r\n", port=at)
    assert (status, error["code"]) == (b"HTTP/1.1 400 Bad Request", "invalid_host")


async def test_a_refusal_of_a_host_ends_the_connection_after_what_was_asked_before() -> None:
    with LiveService() as live:
        got = await received(live, HEALTH, HEALTH, HEALTH.replace(b": a", b": b,c"), HEALTH)
        refused = {"reason": "invalid_host", "tenant": "anonymous"}
        assert live.value("inference_refusals_total", **refused) == 1
    assert (got.count(b"HTTP/1.1 200"), got.count(b"HTTP/1.1")) == (2, 3)
    assert got.count(b"connection: close") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.0",
        b"GET /health HTTP/1.0\r\nHost: a",
        b"GET http://A:80/health HTTP/1.1\r\n" + OWN,
        b"GET https://a:80/health?x=http://b/ HTTP/1.1\r\n" + OWN,
        b"GET /health?x=http://b/ HTTP/1.1\r\n" + OWN,
        b"GET /health HTTP/1.1\r\nHost: [::1]:8000",
    ],
)
async def test_a_request_that_names_its_host_is_answered(service: LiveService, head: bytes) -> None:
    got = await received(service, head + b"\r\nConnection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200")


async def test_empty_lines_do_not_hold_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveService() as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(HEALTH)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.2)

        async def send() -> None:
            while True:
                writer.write(b"\r\n")
                await asyncio.sleep(0.02)

        async with beside(send()):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()


async def test_a_connection_whose_last_bytes_are_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "_LAST_BYTES_SECONDS", 0.1)
    with LiveService() as live:

        @live.app.get("/large")
        async def large() -> Response:
            return Response(b"x" * (16 << 20))

        _, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1)
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await eventually(lambda: live.outcomes()["ok"] == 1)
        await eventually(lambda: not live.connections)
        writer.close()
