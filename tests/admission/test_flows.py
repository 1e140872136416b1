"""Flows: the end users of one gateway share what the gateway's tenant gets."""

import pytest

from service.admission.fair_queue import FairQueue
from service.admission.flows import MOST_FLOWS, OTHERS
from service.admission.load_shedding import refusal_of_full_queue
from service.admission.queued_request import Backlog, QueuedRequest
from tests.admission.requests import request


def of(
    flow: str, tenant: str = "gateway", prompt: int = 10, *, again: bool = False
) -> QueuedRequest:
    made = request(tenant, prompt=prompt, again=again)
    made.flow = flow
    return made


def fill(queue: FairQueue, *requests: QueuedRequest) -> None:
    for each in requests:
        queue.push(each, 1.0)


def order(queue: FairQueue) -> list[str]:
    """Tenants and flows in the order in which they start, nothing ending in between."""
    names = []
    while (started := queue.pop(1000)) is not None:
        names.append(f"{started.tenant}/{started.flow}".removesuffix("/"))
    return names


def test_flows_alternate_whatever_their_backlogs() -> None:
    queue = FairQueue()
    fill(queue, *(of("heavy") for _ in range(4)), of("light"), of("light"))
    expected = ["heavy", "light", "heavy", "light", "heavy", "heavy"]
    assert order(queue) == [f"gateway/{each}" for each in expected]


def test_a_gateway_gets_no_more_for_having_many_flows() -> None:
    queue = FairQueue()
    fill(
        queue, *(of(f"user{n}") for n in range(8)), *(request("other", prompt=10) for _ in range(8))
    )
    started = [name.partition("/")[0] for name in order(queue)]
    assert started == ["gateway", "other"] * 8


def test_requests_without_a_flow_are_one_of_them() -> None:
    queue = FairQueue()
    fill(queue, *(of("a") for _ in range(3)), *(of("") for _ in range(3)))
    assert order(queue) == ["gateway/a", "gateway"] * 3


def test_output_counts_for_its_flow() -> None:
    queue = FairQueue()
    fill(queue, of("a"), of("a"), of("b"), of("b"))
    running = queue.pop(9)
    assert running is not None
    queue.add_output(running, 100)
    queue.charge(running, output=200)
    assert order(queue) == ["gateway/b", "gateway/b", "gateway/a"]


def test_a_flow_that_pauses_earns_no_credit() -> None:
    queue = FairQueue()
    fill(queue, *(of("busy") for _ in range(4)))
    for _ in range(3):
        queue.pop(1000)
    fill(queue, *(of("back") for _ in range(3)), *(of("busy") for _ in range(2)))
    expected = ["busy", "back", "busy", "back", "busy", "back"]
    assert sorted(order(queue)[:4]) == sorted(f"gateway/{each}" for each in expected[:4])


def test_a_preempted_request_goes_first() -> None:
    queue = FairQueue()
    fill(queue, of("a"), of("b"), of("b", again=True))
    assert order(queue)[0] == "gateway/b"


def test_the_number_of_flows_is_bounded_and_the_rest_share_one() -> None:
    queue = FairQueue()
    requests = [of(f"user{n}") for n in range(MOST_FLOWS + 20)]
    fill(queue, *requests)
    assert [each.flow for each in requests[MOST_FLOWS:]] == [OTHERS] * 20
    while (started := queue.pop(10_000)) is not None:
        queue.finish(started)
    fill(queue, fresh := of("new"))
    assert fresh.flow == "new"


def test_a_light_flow_is_not_forecast_the_heavy_ones_wait() -> None:
    queue = FairQueue()
    fill(queue, *(of("heavy") for _ in range(30)))
    heavy, light = queue.backlog(of("heavy")), queue.backlog(of("light"))
    assert (heavy.own_cost, heavy.share, heavy.flow_requests) == (30, 1, 30)
    assert (light.own_cost, light.share, light.flow_requests) == (0, 1 / 2, 0)
    assert light.own_requests == heavy.own_requests == 30


@pytest.mark.parametrize(
    ("own", "flow", "refused"), [(0, 0, False), (72, 0, False), (72, 64, True), (80, 0, True)]
)
def test_one_flow_cannot_take_all_places_of_its_tenant(own: int, flow: int, refused: bool) -> None:
    backlog = Backlog(own, 0.0, 90, 1.0, 1.0, 1.0, 0, flow_requests=flow)
    assert (refusal_of_full_queue(backlog, 100, 1.0) is not None) is refused


def test_a_tenant_without_flows_has_none() -> None:
    queue = FairQueue()
    fill(queue, *(request("a") for _ in range(3)))
    assert queue.backlog(request("a")).flow_requests == 0
    assert order(queue) == ["a"] * 3
