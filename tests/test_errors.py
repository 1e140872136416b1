"""The wire form of an error: one rounding of Retry-After for every place that answers."""

import pytest

from service.errors import DeadlineExceeded, NotReady, ServiceError, Unauthenticated


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (40, "40")]
)
def test_retry_after_is_rounded_up_to_at_least_a_second(seconds: float, header: str) -> None:
    assert NotReady(retry_after=seconds).headers()["retry-after"] == header


@pytest.mark.parametrize(("seconds", "most"), [(0.2, 300), (1, 1500), (50, 60_000), (90, 90_000)])
def test_milliseconds_are_spread_but_never_shorter_and_never_beyond_a_minute(
    seconds: float, most: int
) -> None:
    told = [int(NotReady(retry_after=seconds).headers()["retry-after-ms"]) for _ in range(200)]
    assert 1000 * seconds <= min(told) <= max(told) <= most
    assert len(set(told)) > 20 or seconds > 60


def test_a_passed_deadline_is_not_worth_another_try() -> None:
    assert DeadlineExceeded().headers() == {"x-should-retry": "false"}
    assert "x-should-retry" not in NotReady(retry_after=1).headers()


def test_an_error_without_a_time_has_no_header() -> None:
    assert ServiceError().headers() == {}


def test_a_missing_key_names_the_scheme() -> None:
    assert Unauthenticated().headers() == {"www-authenticate": "Bearer"}
