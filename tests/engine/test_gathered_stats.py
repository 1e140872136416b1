"""vLLM's series, recorded for several steps at once."""

import asyncio
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import (
    FinishedRequestStats,
    IterationStats,
    PrefixCacheStats,
    SchedulerStats,
)

from service.engine.contract import Adapter
from service.settings.tree import ModelSettings, Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.fast import gathered_stats
from service.vllm.fast.gathered_stats import GatheredStats
from tests.served.configuration import ENGINE

Steps = list[tuple[SchedulerStats | None, IterationStats | None]]


@pytest.fixture(scope="module")
def config(tiny_folder: Path) -> Any:
    engine = ENGINE | {"enable_lora": True, "max_loras": 2}
    model = ModelSettings(name="tiny", path=tiny_folder)
    return engine_config(parse_engine_arguments(Settings(model=model, engine=engine)))


def scheduler(draw: random.Random) -> SchedulerStats:
    names = ("", "a", "b")
    return SchedulerStats(
        num_running_reqs=draw.randrange(9),
        num_waiting_reqs=draw.randrange(9),
        num_skipped_waiting_reqs=draw.randrange(3),
        kv_cache_usage=draw.random(),
        prefix_cache_stats=PrefixCacheStats(queries=draw.randrange(9), hits=draw.randrange(9)),
        connector_prefix_cache_stats=PrefixCacheStats(queries=3) if draw.random() < 0.1 else None,
        running_lora_adapters={name: 1 for name in names if name == draw.choice(names)},
        waiting_lora_adapters={name: 1 for name in names if name == draw.choice(names)},
    )


def finished(draw: random.Random) -> FinishedRequestStats:
    return FinishedRequestStats(
        finish_reason=draw.choice([FinishReason.STOP, FinishReason.LENGTH]),
        request_id="any",
        e2e_latency=draw.random(),
        num_prompt_tokens=draw.randrange(1, 99),
        num_generation_tokens=draw.randrange(1, 99),
        max_tokens_param=draw.choice([None, 5]),
        queued_time=draw.random(),
        prefill_time=draw.random(),
        inference_time=draw.random(),
        decode_time=draw.random(),
        mean_time_per_output_token=draw.random(),
    )


def iteration(draw: random.Random) -> IterationStats:
    stats = IterationStats()
    stats.num_generation_tokens = draw.randrange(40)
    stats.num_preempted_reqs = draw.randrange(2)
    stats.prompt_token_stats.computed = draw.randrange(99)
    stats.prompt_token_stats.local_cache_hit = draw.randrange(9)
    stats.prompt_token_stats.cached_tokens = draw.randrange(9)
    stats.prompt_token_stats.total = draw.randrange(99)
    times = [0.01, 0.025, 0.05, 1e-4, 1e4]  # bounds of buckets, too
    stats.inter_token_latencies_iter = [draw.choice([*times, draw.random()]) for _ in range(9)]
    stats.time_to_first_tokens_iter = [draw.random() for _ in range(draw.randrange(3))]
    stats.n_params_iter = [1] * draw.randrange(3)
    stats.max_num_generation_tokens_iter = [draw.randrange(99)]
    stats.finished_requests = [finished(draw) for _ in range(draw.randrange(3))]
    return stats


def steps(draw: random.Random) -> Steps:
    return [
        (
            scheduler(draw) if draw.random() < 0.9 else None,
            iteration(draw) if draw.random() < 0.8 else None,
        )
        for _ in range(300)
    ]


def shown() -> Iterator[tuple[str, float]]:
    """vLLM's samples, but for those whose value is a time of day."""
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name.startswith("vllm:") and not sample.name.endswith("_created"):
                of_day = sample.name == "vllm:lora_requests_info"
                yield f"{sample.name} {sample.labels}", 1.0 if of_day else sample.value


@pytest.mark.parametrize("seed", range(3))
async def test_gathered_steps_show_what_vllms_own_logger_shows(config: Any, seed: int) -> None:
    made = steps(random.Random(seed))
    own = PrometheusStatLogger(config, [0])
    for step in deepcopy(made):
        own.record(*step)
    wanted = dict(shown())
    gathered = GatheredStats(config, [0])
    for step in made:
        gathered.record(*step)
    assert dict(shown()) == pytest.approx(wanted)
    assert sum(value for name, value in wanted.items() if "iteration_tokens" in name) > 0


async def test_a_step_is_recorded_without_a_reader(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_stats, "_SECONDS", 0.05)
    gathered = GatheredStats(config, [0])
    gathered.record(SchedulerStats(num_running_reqs=7), None)
    running = gathered.gauge_scheduler_running[0]
    assert running._value.get() == 0
    while running._value.get() != 7:  # noqa: ASYNC110 - told to nobody
        await asyncio.sleep(0.01)


async def test_adapters_stand_under_the_names_that_requests_give(config: Any) -> None:
    gathered = GatheredStats(config, [0])
    versions = [Adapter("intent", 1, "/a", f"sha256:{digit * 64}") for digit in "ab"]
    gathered.record(
        SchedulerStats(
            running_lora_adapters={each.engine_name: 1 for each in versions},
            waiting_lora_adapters={Adapter("tools", 3, "/t", "sha256:" + "c" * 64).engine_name: 2},
        ),
        None,
    )
    (labels,) = [name for name, _ in shown() if name.startswith("vllm:lora_requests_info")]
    assert "'running_lora_adapters': 'intent'" in labels
    assert "'waiting_lora_adapters': 'tools'" in labels
