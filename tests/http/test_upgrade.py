"""Requests that ask for another protocol: answered like others, with their bodies read."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.raw_http import exchange, question
from tests.live_service import LiveService

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
UPGRADES = {
    "as Java's HttpClient asks": H2C,
    "to WebSocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
    "to anything": ("connection: upgrade", "UPGRADE: anything"),
    "in two lines": ("Connection: x", "Upgrade: a", "Connection: Upgrade", "Upgrade: b"),
}
CLOSE = "Connection: close"
HIDDEN = question("smuggled", "never asked")


def halves(request: bytes) -> list[bytes]:
    """Head and body, each in a segment of its own."""
    head, _, body = request.partition(b"\r\n\r\n")
    return [head + b"\r\n\r\n", body]


@pytest.mark.parametrize("asked", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "body apart"])
async def test_it_is_answered_by_its_own_body_and_the_next_one_by_its(
    service: LiveService, asked: Sequence[str], chunks: int, apart: bool
) -> None:
    first = question("first", "one", *asked, chunks=chunks)
    segments = halves(first) if apart else [first]
    got = await exchange(service, [*segments, question("second", "three", CLOSE)])
    assert [(each.status, each.request_id) for each in got] == [(200, "first"), (200, "second")]
    assert [each.json["count"] for each in got] == [len("\0one"), len("\0three")]


@pytest.mark.parametrize("asked", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "body apart"])
async def test_a_request_in_its_body_is_not_answered(
    service: LiveService, asked: Sequence[str], apart: bool
) -> None:
    head = ["POST /v1/tokenize HTTP/1.1", "Host: a", "X-Request-Id: outer", *asked]
    head += ["Content-Type: application/json", f"Content-Length: {len(HIDDEN)}", "", ""]
    outer = "\r\n".join(head).encode()
    segments = [outer, HIDDEN] if apart else [outer + HIDDEN]
    got = await exchange(service, [*segments, question("last", "z", CLOSE)])
    assert [(each.status, each.request_id) for each in got] == [(400, "outer"), (200, "last")]


async def test_one_in_a_pipeline_keeps_its_place(service: LiveService) -> None:
    names = [f"{number}" for number in range(6)]
    requests = [question(name, "x" * (2 + int(name)), *H2C) for name in names]
    got = await exchange(service, [b"".join(requests) + question("last", "y", CLOSE)])
    assert [each.request_id for each in got] == [*names, "last"]
    assert [each.json["count"] for each in got] == [3, 4, 5, 6, 7, 8, 2]


@pytest.mark.parametrize("target", [b"a:443", b"http://a/v1/tokenize"])
async def test_a_tunnel_is_refused(service: LiveService, target: bytes) -> None:
    sent = b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    got = await exchange(service, [sent + HIDDEN])
    assert [(each.status, each.json["error"]["code"]) for each in got] == [
        (405, "method_not_allowed")
    ]


async def test_what_is_no_http_is_refused_in_the_one_shape(service: LiveService) -> None:
    got = await exchange(service, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
    assert [(each.status, each.json["error"]["code"]) for each in got] == [(400, "invalid_http")]


ASKED = st.tuples(
    st.text("abcd{}\r\n\u20ac", min_size=1, max_size=40),
    st.sampled_from([(), *UPGRADES.values()]),
    st.integers(0, 4),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(asked=st.lists(ASKED, min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_how_the_bytes_are_cut_never_changes_an_answer(
    service: LiveService, asked: list[tuple[str, Sequence[str], int]], seed: int
) -> None:
    lines = [question(f"{n}", text, *up, chunks=c) for n, (text, up, c) in enumerate(asked)]
    sent = b"".join(lines) + question("last", "z", CLOSE)
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, len(sent)), k=min(chance.randint(0, 12), len(sent) - 1)))
    segments = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    got = asyncio.run(exchange(service, segments))
    assert [(each.status, each.request_id) for each in got] == [
        *((200, f"{number}") for number in range(len(asked))),
        (200, "last"),
    ]
    counts = [len(f"\0{text}".encode()) for text, _, _ in asked]
    assert [each.json["count"] for each in got] == [*counts, 2]
