from service.admission.queued_request import cost_of
from tests.admission.requests import request


def test_two_requests_are_the_same_only_as_objects() -> None:
    assert len({request(), request()}) == 2


def test_an_output_token_costs_two_and_a_cached_one_a_tenth() -> None:
    assert cost_of(100) == 100
    assert cost_of(100, cached=80) == 28
    assert cost_of(100, cached=80, output=5) == 38
