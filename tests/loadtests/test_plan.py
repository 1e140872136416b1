"""One seeded plan: exact under splitting, blind to everything but the seed."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from loadtests.load.plan import Arrival, Plan
from loadtests.load.stage import WARMUP
from loadtests.load.text import Message, shared_tokens
from tests.loadtests.scenarios import CHAT, scenario

FIXED = {"kind": "fixed", "tokens": 8}


def calls(plan: Plan) -> list[Any]:
    return [plan.call(arrival) for arrival in plan.arrivals]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_union_of_the_shares_is_the_plan(workers: int) -> None:
    whole = Plan(scenario(), "base")
    shares = [Plan(scenario(), "base").share(worker, workers) for worker in range(workers)]
    union = sorted((a for share in shares for a in share), key=lambda a: a.index)
    assert union == whole.arrivals
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [whole.call(a) for a in union] == calls(whole)


def test_the_seed_decides_everything() -> None:
    assert calls(Plan(scenario(), "base")) == calls(Plan(scenario(), "base"))
    assert calls(Plan(scenario(), "base")) != calls(Plan(scenario(seed=4), "base"))


def test_contents_stay_when_the_rate_changes() -> None:
    slow, fast = (
        Plan(
            scenario(
                load={"kind": "open", "step_s": 10, "arrivals": {"process": "poisson", "rate": r}}
            ),
            "base",
        )
        for r in (5, 50)
    )
    assert slow.call(slow.arrivals[3]).messages == fast.call(fast.arrivals[3]).messages


def test_stages_follow_each_other_and_the_warm_up_comes_first() -> None:
    load = {
        "kind": "open",
        "arrivals": {"process": "constant", "rate": 2},
        "steps": [1, 3],
        "step_s": 10,
        "warmup_s": 5,
    }
    plan = Plan(scenario(load=load), "base")
    assert plan.offered() == {WARMUP: 10, "x1": 20, "x3": 60}
    assert next(a.at for a in plan.arrivals if a.stage == "x3") == 15
    assert [a.index for a in plan.arrivals] == list(range(90))


def test_the_mix_and_the_tenants_come_in_proportion() -> None:
    plan = Plan(
        scenario(
            load={"kind": "open", "step_s": 200, "arrivals": {"process": "poisson", "rate": 20}},
            workloads=[
                CHAT | {"weight": 3},
                {"kind": "classify", "weight": 1, "input": FIXED, "labels": ["a", "b"]},
            ],
            tenants=[{"name": "big", "share": 4}, {"name": "small", "share": 1}],
        ),
        "base",
    )
    kinds = Counter(call.workload for call in calls(plan))
    tenants = Counter(call.tenant for call in calls(plan))
    assert kinds["chat"] / kinds.total() == pytest.approx(0.75, abs=0.03)
    assert tenants["big"] / tenants.total() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("hit_rate", [0.3, 0.9])
def test_a_prefix_tree_reaches_its_hit_rate(hit_rate: float) -> None:
    tree = {
        "kind": "prefix_tree",
        "hit_rate": hit_rate,
        "input": {"kind": "fixed", "tokens": 200},
        "output": FIXED,
    }
    workload = scenario(workloads=[tree]).workloads[0]
    rng = np.random.default_rng(0)
    prompts = [workload.content(3, index, rng).prompt for index in range(3000)]
    shared, total = shared_tokens(prompts)
    assert total == 3000 * 200
    assert shared / total == pytest.approx(hit_rate, rel=0.02)


def test_retrieval_shares_its_popular_passages() -> None:
    rag = {"kind": "rag", "question": FIXED, "output": FIXED, "corpus": 50, "chunks": 2}
    plan = Plan(scenario(workloads=[rag]), "base")
    first = Counter(call.messages[1].text.split("\n")[0] for call in calls(plan))
    assert len({call.messages[0].text for call in calls(plan)}) == 1
    assert first.most_common(1)[0][1] > 3 * first.total() / 50


def test_long_contexts_share_nothing() -> None:
    long = {"kind": "long_context", "document": {"kind": "fixed", "tokens": 500}, "output": FIXED}
    texts = [c.messages[0].text for c in calls(Plan(scenario(workloads=[long]), "base"))]
    assert len({text[:100] for text in texts}) == len(texts)
    assert len(texts[0].split()) == 500 + 32


def test_a_share_of_the_clients_hangs_up() -> None:
    cancel = {"share": 0.25, "after_chunks": {"kind": "fixed", "tokens": 3}}
    plan = Plan(scenario(workloads=[CHAT | {"cancel": cancel}]), "base")
    cancelled = [call.cancel_after for call in calls(plan)]
    assert set(cancelled) == {None, 3}
    assert cancelled.count(3) / len(cancelled) == pytest.approx(0.25, abs=0.08)


def test_a_session_carries_the_whole_conversation() -> None:
    session = CHAT | {
        "kind": "session",
        "turns": {"kind": "fixed", "tokens": 3},
        "think_s": 2,
        "system_tokens": 5,
    }
    plan = Plan(scenario(workloads=[session]), "base")
    first = plan.call(plan.arrivals[0])
    second = plan.next_turn(first, "the answer", ended_at=10.0)
    assert second is not None
    assert second.at == 12.0
    assert second.turn == 1
    assert second.messages[: len(first.messages) + 1] == (
        *first.messages,
        Message("assistant", "the answer"),
    )
    third = plan.next_turn(second, "again", ended_at=20.0)
    assert third is not None
    assert plan.next_turn(third, "end", ended_at=30.0) is None
    assert plan.next_turn(second, "again", ended_at=20.0) == third


def test_closed_loop_users_never_share_an_index() -> None:
    plan = Plan(
        scenario(load={"kind": "closed", "users": [2, 4], "step_s": 10}),
        "base",
    )
    arrivals = [plan.closed_arrival(user, k, at=11.0) for user in range(3) for k in range(5)]
    assert len({arrival.index for arrival in arrivals}) == 15
    assert {arrival.stage for arrival in arrivals} == {"4 users"}
    assert plan.call(arrivals[0]).at == 11.0


ADAPTERS = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("adapters", "expected"),
    [
        ({"choice": "one"}, [1.0, 0, 0, 0]),
        ({"choice": "uniform"}, [0.25] * 4),
        ({"choice": "weighted", "weights": [5, 3, 1, 1]}, [0.5, 0.3, 0.1, 0.1]),
        ({"choice": "zipf"}, [0.48, 0.24, 0.16, 0.12]),
    ],
)
def test_adapters_come_as_chosen(adapters: dict[str, Any], expected: list[float]) -> None:
    plan = Plan(scenario(adapters=adapters | {"names": ADAPTERS}), "base")
    rng = np.random.default_rng(0)
    choice = plan.scenario.adapters
    assert choice is not None
    counts = Counter(choice.pick(0.0, rng) for _ in range(5000))
    assert [counts[name] / 5000 for name in ADAPTERS] == pytest.approx(expected, abs=0.03)


def test_churn_retires_the_oldest_adapter() -> None:
    plan = Plan(
        scenario(adapters={"choice": "churn", "names": ADAPTERS, "active": 2, "period_s": 5}),
        "base",
    )
    seen: dict[int, set[str]] = {}
    for at in np.arange(0, 15, 0.05):
        call = plan.call(Arrival(int(at * 20), float(at), "x1"))
        seen.setdefault(int(at // 5), set()).add(call.model)
    assert seen == {0: {"a", "b"}, 1: {"b", "c"}, 2: {"c", "d"}}
