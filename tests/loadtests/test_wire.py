"""Events on a real socket, one exchange at a time."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loadtests.processes import PATIENCE_S
from tests.loadtests.scripted_server import (
    DONE,
    Connection,
    Script,
    ScriptedServer,
    closing,
    event,
    steady,
    token,
)

Row = dict[str, Any]


def pieces(*data: bytes, pause_s: float = 0.01, end: bool = True) -> Script:
    async def script(connection: Connection) -> None:
        await connection.start()
        for one in data:
            await connection.piece(one, log=True)
            await asyncio.sleep(pause_s)
        if end:
            await connection.end()
        else:
            connection.close()

    return script


def status(code: int, *headers: str) -> Script:
    async def script(connection: Connection) -> None:
        await connection.plain(code, {"error": {"code": "c", "message": "m"}}, *headers)

    return script


async def reset_midway(connection: Connection) -> None:
    await connection.start()
    await connection.piece(token())
    await asyncio.sleep(0.02)
    connection.close(reset=True)


async def reset_at_once(connection: Connection) -> None:
    connection.close(reset=True)


async def close_at_once(connection: Connection) -> None:
    connection.close()


async def without_length(connection: Connection) -> None:
    """HTTP/1.0 style: the body ends with the connection."""
    await connection.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + token() + DONE)
    connection.close()


async def silent(connection: Connection) -> None:
    await connection.start()
    await asyncio.sleep(PATIENCE_S)


CHUNK = b'data: {"choices": [{"index": 0, "delta": %s, "finish_reason": null}]}\n\n'
ACCENT = "data: " + json.dumps({"text": "é"}, ensure_ascii=False) + "\n\n"
CUT = ACCENT.encode().index(b"\xc3") + 1

SILENT = "silent"
"""The only case that ends by the client's patience."""

SCRIPTS: dict[str, Script] = {
    "steady": steady(0.02, 0.01, 25),
    "role-only": pieces(
        CHUNK % b'{"role": "assistant"}', CHUNK % b'{"content": "x"}', DONE, pause_s=1.0
    ),
    "empty-delta": pieces(CHUNK % b'{"content": ""}', CHUNK % b'{"content": "x"}', DONE),
    "several-events": pieces(token("a") + token("b"), token("c") + closing(1, 3) + DONE),
    "crlf": pieces(token().replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n")),
    "utf8-split": pieces(ACCENT.encode()[:CUT], ACCENT.encode()[CUT:], DONE),
    "event-split": pieces(token()[:9], token()[9:], DONE),
    "pings": pieces(b": ping\n\n", token(), b": ping\n\n", DONE),
    "in-band": pieces(token(), event(error={"code": "engine_dead", "message": "gone"})),
    "no-done": pieces(token(), closing(1, 1)),
    "done-cut": pieces(token(), b"data: [DONE]", end=False),
    "fin": pieces(token(), end=False),
    "rst": reset_midway,
    "rst-at-once": reset_at_once,
    "fin-at-once": close_at_once,
    "no-length": without_length,
    SILENT: silent,
    "429": status(429, "Retry-After: 3"),
    "503": status(503),
    "504": status(504),
    "500": status(500),
}

OPENAI = {"role-only", "empty-delta"}


@pytest.fixture(scope="module")
def exchanged() -> Iterator[dict[str, Row]]:
    with ScriptedServer(SCRIPTS) as server:
        cases: list[list[Any]] = [["openai" if n in OPENAI else "native", n, None] for n in SCRIPTS]
        cases.append(["native", "steady", 2])
        rows = probe(server.url, cases)
        found = dict(zip([*SCRIPTS, "cancelled"], rows, strict=True))
        sent = {served.headers["x-request-id"]: served.sent for served in server.served}
        for number, row in enumerate(rows):
            row["server"] = sent.get(str(number), [])
        yield found


def probe(host: str, cases: list[list[Any]]) -> list[Row]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.loadtests.wire_probe"],
        input=json.dumps({"host": host, "hasty": SILENT, "cases": cases}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows: list[Row] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize(
    ("case", "outcome", "chunks"),
    [
        ("steady", "ok", 25),
        ("role-only", "ok", 1),
        ("empty-delta", "ok", 1),
        ("several-events", "ok", 3),
        ("crlf", "ok", 1),
        ("utf8-split", "ok", 1),
        ("event-split", "ok", 1),
        ("pings", "ok", 1),
        ("no-length", "ok", 1),
        ("in-band", "stream_error", 1),
        ("no-done", "truncated", 1),
        ("done-cut", "truncated", 1),
        ("fin", "truncated", 1),
        ("rst", "reset", 1),
        ("rst-at-once", "reset", 0),
        ("fin-at-once", "reset", 0),
        ("silent", "timeout", 0),
        ("429", "refused", 0),
        ("503", "refused", 0),
        ("504", "deadline", 0),
        ("500", "http_error", 0),
        ("cancelled", "cancelled", 2),
    ],
)
def test_the_outcome_of_every_case(
    exchanged: dict[str, Row], case: str, outcome: str, chunks: int
) -> None:
    assert exchanged[case]["outcome"] == outcome
    assert len(exchanged[case]["chunks"]) == chunks


def test_a_refusal_keeps_when_to_come_back(exchanged: dict[str, Row]) -> None:
    assert exchanged["429"]["retry_after"] == "3"
    assert exchanged["503"]["retry_after"] is None


def test_a_split_character_arrives_whole(exchanged: dict[str, Row]) -> None:
    assert exchanged["utf8-split"]["text"] == "é"


def test_the_role_only_chunk_is_earlier_than_the_first_token(exchanged: dict[str, Row]) -> None:
    row = exchanged["role-only"]
    assert row["first_event"] < row["chunks"][0]


def test_each_chunk_has_an_instant_of_its_own_after_it_was_sent(exchanged: dict[str, Row]) -> None:
    row = exchanged["steady"]
    asked, rounding = row["start"] + row["sent"], 1e-6
    sent = [instant - asked for instant in row["server"]]
    assert len(sent) == len(row["chunks"]) == 25
    assert all(one <= came + 2 * rounding for one, came in zip(sent, row["chunks"], strict=True))
    assert sent[-1] > row["chunks"][0]


@pytest.mark.timing
def test_the_gaps_between_chunks_are_those_of_the_server(exchanged: dict[str, Row]) -> None:
    row = exchanged["steady"]
    measured = [b - a for a, b in zip(row["chunks"], row["chunks"][1:], strict=False)]
    real = [b - a for a, b in zip(row["server"], row["server"][1:], strict=False)]
    errors = sorted(abs(a - b) for a, b in zip(measured, real, strict=True))
    assert errors[len(errors) // 2] < 0.005


def test_no_server_is_unreachable() -> None:
    with ScriptedServer({}) as server:
        gone = server.url
    assert probe(gone, [["native", "x", None]])[0]["outcome"] == "unreachable"


def test_no_name_is_unreachable() -> None:
    row = probe("http://no-such-host.invalid:1", [["native", "x", None]])[0]
    assert row["outcome"] == "unreachable"
