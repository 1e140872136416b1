"""Writes of a connection's transport."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from service.http.connection import EndingTransport
from tests.live_service import LiveService


class Written(Mock):
    """A transport that keeps what is written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts: list[bytes] = []
        self.write = self.parts.append
        self.is_closing = lambda: False


@pytest.fixture
def transport() -> EndingTransport:
    return EndingTransport(Written(), Mock(spec=asyncio.AbstractEventLoop))


def test_a_head_is_written_with_the_first_part_of_its_answer(transport: EndingTransport) -> None:
    transport.hold()
    transport.write(b"head ")
    assert transport.parts == []
    transport.write(b"body")
    transport.write(b"more")
    assert transport.parts == [b"head body", b"more"]


def test_a_long_part_is_not_copied(transport: EndingTransport) -> None:
    transport.hold()
    transport.write(b"head")
    transport.write(bytes(1 << 20))
    assert [len(part) for part in transport.parts] == [4, 1 << 20]


@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_head_without_a_part_is_written_at_the_end(transport: EndingTransport, end: str) -> None:
    transport.hold()
    transport.write(b"head")
    getattr(transport, end)()
    transport.write(b"next head")
    assert transport.parts == [b"head", b"next head"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_answers_follow_one_another_on_a_connection(
    service: LiveService, method: str
) -> None:
    async with service.client() as client:
        for _ in range(3):
            answer = await client.request(method, "/openapi.json")
            assert answer.status_code == 200
            assert bool(answer.content) is (method == "GET")
