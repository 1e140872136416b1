"""The headers that say how a tenant's quotas stand."""

import pytest

from service.tenants.tenant import Quota, Standing, headers_of

MINUTE, DAY = Quota("tokens", 100, 60), Quota("tokens", 1000, 86_400)


def test_the_quota_with_least_left_is_told() -> None:
    tight = [Standing(MINUTE, 90, 30), Standing(DAY, 50, 5000)]
    assert headers_of(tight) == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "1h23m20s",
    }
    assert headers_of([]) == {}


@pytest.mark.parametrize(
    ("left", "unspent", "told"), [(-5, 0, "0"), (10, 7, "17"), (99, 7, "100"), (-5, 7, "2")]
)
def test_what_is_left_is_between_nothing_and_the_limit(left: int, unspent: int, told: str) -> None:
    headers = headers_of([Standing(MINUTE, left, 1)], unspent)
    assert headers["x-ratelimit-remaining-tokens"] == told


def test_tokens_that_are_not_spent_are_no_requests() -> None:
    headers = headers_of([Standing(Quota("requests", 10, 60), 4, 1)], unspent_tokens=3)
    assert headers["x-ratelimit-remaining-requests"] == "4"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0s"), (0.2, "1s"), (59.1, "1m0s"), (61, "1m1s"), (3600, "1h0m0s"), (86_400, "24h0m0s")],
)
def test_a_duration_is_written_as_openai_does(seconds: float, told: str) -> None:
    standing = Standing(Quota("requests", 1, 60), 0, seconds)
    assert headers_of([standing])["x-ratelimit-reset-requests"] == told
