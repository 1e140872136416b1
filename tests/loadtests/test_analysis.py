"""Metrics by their definitions, statistics by their theory."""

import numpy as np
import pytest

from loadtests.analysis.compat import compat
from loadtests.analysis.fairness import fairness, jain, max_min
from loadtests.analysis.latency import distributions, token_gaps, tpot
from loadtests.analysis.objectives import Limits, Objectives, load_objectives
from loadtests.analysis.statistics import describe, least_samples, ratio_interval
from loadtests.analysis.summary import summarize
from loadtests.analysis.throughput import Window
from loadtests.load.choice import Tenant
from loadtests.load.scenario import ScenarioError
from tests.loadtests.records import record

MS = pytest.approx


def test_definitions() -> None:
    found = distributions([record(i) for i in range(10)])
    means = {name: d.mean for name, d in found.items()}
    assert means == {
        "ttft": MS(0.1),
        "ttft_due": MS(0.101),
        "icl": MS(0.02),
        "itl": MS(0.02),
        "tpot": MS(0.025),
        "ntpot": MS(0.05),
        "e2e": MS(0.15),
        "e2e_due": MS(0.151),
    }
    assert found["itl"].samples == 20


def test_a_chunk_of_several_tokens_is_several_short_gaps() -> None:
    counted = record(chunk_tokens=[1, 4, 1], completion_tokens=6)
    assert token_gaps(counted) == MS([0.005] * 4 + [0.02])
    spread = record(completion_tokens=6)
    assert token_gaps(spread) == MS([0.01, 0.01])
    ended = record(completion_tokens=4)
    assert token_gaps(ended) == MS([0.02, 0.02])


def test_one_token_has_no_time_per_output_token() -> None:
    assert tpot(record(chunks=[0.1], completion_tokens=1)) is None


def test_batches_of_texts_are_not_mixed_with_generation() -> None:
    rows = [
        record(0),
        record(1, task="classify", chunks=[], e2e=9.0, items=4),
        record(2, task="embed", chunks=[], e2e=0.5, items=4),
    ]
    found = distributions(rows)
    assert found["e2e"].max == MS(0.15)
    assert found["classify"].max == MS(9.0)
    assert found["embed"].max == MS(0.5)


def test_each_task_has_its_limit() -> None:
    limits = Limits(classify_ms=200, embed_ms=100)
    slo = Objectives(name="slo", goodput=1, limits=limits)
    batch = {"chunks": [], "items": 1, "e2e": 0.15}
    assert slo.met(record(0, task="classify", **batch))
    assert not slo.met(record(0, task="embed", **batch))
    assert slo.met(record(0, task="embed", **batch | {"e2e": 0.05}))


def test_failures_have_no_latency_but_are_offered() -> None:
    slo = Objectives(name="slo", goodput=0.9, limits=Limits(ttft_ms=1000))
    rows = [record(0), record(1, outcome="refused", e2e=0.001), record(2, outcome="cancelled")]
    summary = summarize("all", rows, rows, Window(0, 10), slo, missing=1)
    assert summary.latency["ttft"].samples == 1
    assert summary.offered == 3
    assert summary.goodput is not None
    assert summary.goodput.met == 1
    assert summary.goodput.ratio == MS(1 / 3)


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        (Limits(ttft_ms=101.5), True),
        (Limits(ttft_ms=100.5), False),
        (Limits(tpot_ms=25.5), True),
        (Limits(tpot_ms=24.5), False),
        (Limits(e2e_ms=151.5), True),
        (Limits(e2e_ms=150.5), False),
        (Limits(classify_ms=1), True),
    ],
)
def test_a_request_keeps_to_all_limits_from_its_due_instant(limits: Limits, met: bool) -> None:
    assert Objectives(name="slo", goodput=1, limits=limits).met(record()) is met


def test_an_answer_without_content_counts_its_end_as_first_token() -> None:
    slo = Objectives(name="slo", goodput=1, limits=Limits(ttft_ms=120))
    assert not slo.met(record(chunks=[], completion_tokens=0))


@pytest.mark.parametrize(
    ("name", "ttft_ms", "tpot_ms"),
    [
        ("mlperf-llama3.1-8b-server", 2000, 100),
        ("mlperf-llama3.1-8b-interactive", 500, 30),
        ("mlperf-llama2-70b-server", 2000, 200),
        ("mlperf-llama2-70b-interactive", 450, 40),
    ],
)
def test_mlperf_profiles(name: str, ttft_ms: float, tpot_ms: float) -> None:
    slo = load_objectives(name)
    assert slo.limits == Limits(ttft_ms=ttft_ms, tpot_ms=tpot_ms)
    assert slo.goodput == 0.99


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"interactive.*'fast'"):
        load_objectives("fast")


def test_quantiles_are_refused_without_the_samples_for_them() -> None:
    assert [least_samples(q) for q in (0.5, 0.9, 0.95, 0.99)] == [6, 36, 72, 368]
    values = np.arange(367, dtype=np.float64)
    assert describe(values).p99 is None
    assert describe(values).p95 == MS(np.quantile(values, 0.95))
    assert describe(np.append(values, 367.0)).p99 is not None


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say() -> None:
    covered = {"mean": 0, "p50": 0}
    for seed in range(100):
        values = np.random.default_rng(seed).exponential(1.0, 150)
        intervals = describe(values, seed=seed).intervals
        for name, truth in (("mean", 1.0), ("p50", np.log(2))):
            low, high = intervals[name]
            covered[name] += low <= truth <= high
    assert covered["mean"] >= 87
    assert covered["p50"] >= 87


def test_many_tokens_of_few_requests_are_few_samples() -> None:
    tokens = np.random.default_rng(0).exponential(1.0, 400)
    assert describe(tokens).p99 is not None
    four = describe(tokens, np.repeat(np.arange(4), 100))
    assert (four.samples, four.p50, four.p99) == (400, None, None)
    six = describe(tokens, np.arange(400) % 6)
    assert six.p50 == MS(np.median(tokens))
    assert six.p90 is None


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Wilson's intervals as scipy.stats.binomtest(...).proportion_ci(method="wilson") gives them.
    [(20, 20, 0.838875, 1), (0, 20, 0, 0.161125), (15, 20, 0.531299, 0.888138)],
)
def test_a_ratio_is_uncertain_at_its_edges_too(
    hits: int, total: int, low: float, high: float
) -> None:
    assert ratio_interval(hits, total) == pytest.approx((low, high), abs=1e-5)


def test_tokens_of_one_request_are_drawn_together() -> None:
    """A hundred equal tokens of a request say no more than one of them."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.exponential(1.0, 40), 100)
    clusters = np.repeat(np.arange(40), 100)
    low, high = describe(values, clusters).intervals["mean"]
    naive_low, naive_high = describe(values).intervals["mean"]
    assert high - low > 5 * (naive_high - naive_low)


def test_jain() -> None:
    assert jain([1, 1, 1, 1]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) is None


@pytest.mark.parametrize(
    ("capacity", "demands", "weights", "shares"),
    [
        (10, [2, 20], [1, 1], [2, 8]),
        (9, [20, 20], [2, 1], [6, 3]),
        (100, [5, 7], [1, 1], [5, 7]),
        (12, [1, 20, 20], [1, 1, 10], [1, 1, 10]),
        (10, [0, 20], [1, 1], [0, 10]),
    ],
)
def test_max_min_gives_the_small_what_they_ask(
    capacity: float, demands: list[float], weights: list[float], shares: list[float]
) -> None:
    assert max_min(capacity, demands, weights) == MS(shares)


def test_fairness_knows_a_small_tenant_from_a_starved_one() -> None:
    tenants = [Tenant(name="big"), Tenant(name="small")]
    big = [record(i, tenant="big") for i in range(20)]
    refused = [record(i, tenant="big", outcome="refused") for i in range(20)]
    small = [record(i, tenant="small") for i in range(5)]
    content = fairness([*big, *refused, *small], tenants)
    assert content.jain_entitled == MS(1.0)
    assert content.jain_service is not None
    assert content.jain_service < 0.8
    starved = [record(i, tenant="small", outcome="refused") for i in range(5)]
    unfair = fairness([*big, *starved], tenants)
    assert unfair.jain_entitled is not None
    assert unfair.jain_entitled < 0.8


def test_other_tools_define_otherwise() -> None:
    rows = [record(first_event=0.05)]
    found = compat(rows)
    assert found["vllm"]["mean_ttft_ms"] == MS(50)
    assert found["vllm"]["mean_tpot_ms"] == MS(50)
    assert found["vllm"]["output_throughput"] == MS(20)
    assert found["guidellm"]["mean_inter_token_latency_ms"] == MS(20)
    assert found["guidellm"]["mean_time_per_output_token_ms"] == MS(140 / 3)
    assert found["aiperf"]["mean_inter_token_latency_ms"] == MS(25)
    assert compat([record(outcome="refused")]) == {}
