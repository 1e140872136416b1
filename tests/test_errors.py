"""The wire form of an error: one rounding of Retry-After for every place that answers."""

import pytest

from service.errors import NotReady, ServiceError, Unauthenticated


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (40, "40")]
)
def test_retry_after_is_rounded_up_to_at_least_a_second(seconds: float, header: str) -> None:
    assert NotReady(retry_after=seconds).headers() == {"retry-after": header}


def test_an_error_without_a_time_has_no_header() -> None:
    assert ServiceError().headers() == {}


def test_a_missing_key_names_the_scheme() -> None:
    assert Unauthenticated().headers() == {"www-authenticate": "Bearer"}
