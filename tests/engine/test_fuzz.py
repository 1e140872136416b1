"""A few hundred random requests and byte sequences; `make fuzz` sends many more."""

import pytest

from tests.fuzz import requests, wire
from tests.served.server import Server


async def test_random_requests_are_answered_whole_or_refused_with_a_reason(tiny: Server) -> None:
    outcomes = await requests.fuzz(tiny.url, 100, seed=7)
    assert outcomes.total() == 100
    assert outcomes["/v1/classify ok"] > 2
    assert outcomes["/v1/generate ok"] > 2


@pytest.mark.slow
async def test_random_requests_have_outcomes_of_every_kind(tiny: Server) -> None:
    outcomes = await requests.fuzz(tiny.url, 400, seed=7)
    assert outcomes.total() == 400
    assert outcomes["/v1/classify ok"] > 10
    assert outcomes["/v1/generate ok"] > 10
    assert outcomes["/v1/classify invalid_value"] > 10
    assert outcomes["/v1/responses ok"] > 5
    assert outcomes["/v1/messages ok"] > 5
    assert outcomes["/v1/feedback invalid_value"] > 2
    assert outcomes["/v1/moderations not_found"] > 2  # no guard here; test_heads has one


async def test_random_bytes_get_http_or_an_end(tiny: Server) -> None:
    host, port = tiny.url.removeprefix("http://").split(":")
    outcomes = await wire.fuzz(host, int(port), 200, seed=7)
    assert outcomes["200"] > 15
    assert outcomes["400"] > 5
