"""Sentences about what cannot fit, and the table; the figures are compared in tests/engine."""

from dataclasses import replace
from typing import Any

import pytest

from service.plugins.planning.estimate import Estimate, Needs, Plan, table
from service.plugins.planning.machine import GIB, Device, Machine

NEEDS = Needs(
    weights=15 * GIB,
    adapters=GIB,
    workspace=2 * GIB,
    sequence=GIB,
    length=8192,
    longest=lambda available: max(0, available * 8192 // GIB),
)
PLAN = Plan(
    dtype="bfloat16",
    parameters=8_000_000_000,
    tensor_parallel=1,
    pipeline_parallel=1,
    local_devices=1,
    utilization=0.9,
    kv_bytes=None,
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    adapter_slots=8,
    adapter_rank=16,
    graphs=True,
    compiled_products=0,
)


def gpus(*totals: float, free: float = 1.0) -> Machine:
    devices = [
        Device("H100", int(total * GIB), int(total * free * GIB), (9, 0)) for total in totals
    ]
    return Machine(tuple(devices), 200 * GIB, 200 * GIB, on_cpu=False)


def host(free: float) -> Machine:
    return Machine((), 64 * GIB, int(free * GIB), on_cpu=True)


def test_what_fits_is_not_refused() -> None:
    estimate = Estimate(PLAN, NEEDS, gpus(80))
    assert estimate.refusals() == []
    assert estimate.warnings() == []
    assert estimate.kv == 72 * GIB - 18 * GIB
    assert estimate.sequences == 54


@pytest.mark.parametrize(
    ("machine", "plan", "needs", "sentence"),
    [
        (
            gpus(15),
            {},
            {},
            "the weights take 15.0 GiB of the 13.5 GiB that the engine may use of a GPU: set "
            "engine.tensor_parallel_size to 2 on 2 such GPUs, or serve a quantised checkpoint",
        ),
        (
            gpus(15, 15),
            {"tensor_parallel": 2, "local_devices": 2},
            {"weights": 60 * GIB},
            "set engine.tensor_parallel_size to 16 on 16 such GPUs",
        ),
        (
            gpus(17.5),
            {},
            {},
            "weights and 8 places for adapters of rank 16 take 16.0 GiB of 15.8 GiB: lower "
            "engine.max_loras or engine.max_lora_rank, or name",
        ),
        (
            gpus(18),
            {},
            {},
            "one sequence of engine.max_model_len 8192 takes 1.0 GiB of KV cache, and weights and "
            "adapters leave 0.2 GiB: set at most 1638",
        ),
        (
            gpus(80),
            {"local_devices": 2, "tensor_parallel": 2},
            {},
            "engine.tensor_parallel_size 2 x engine.pipeline_parallel_size 1 needs 2 GPUs on this "
            "machine, which has 1",
        ),
        (
            gpus(80, free=0.5),
            {},
            {},
            "GPU 0 has 40.0 GiB of 80.0 GiB free, and engine.gpu_memory_utilization 0.9 takes "
            "72.0 GiB: end the programs that use the GPU, or set at most 0.50",
        ),
        (
            gpus(80),
            {"kv_bytes": 60 * GIB},
            {},
            "engine.kv_cache_memory_bytes 64424509440 is more than the 56.0 GiB that weights and "
            "adapters leave",
        ),
        (
            host(16),
            {"kv_bytes": GIB},
            {},
            "weights, adapters, KV cache and compiled products take 17.0 GiB of this machine's "
            "memory, of which 16.0 GiB are free: lower cpu.kv_cache_gib",
        ),
        (
            host(18),
            {"kv_bytes": GIB, "compiled_products": 1024},
            {"products": int(1.1 * GIB)},
            "take 18.1 GiB of this machine's memory, of which 18.0 GiB are free: lower "
            "cpu.kv_cache_gib, cpu.compiled_products or engine.max_loras",
        ),
        (
            host(60),
            {"kv_bytes": GIB},
            {"sequence": int(3.5 * GIB)},
            "one sequence of engine.max_model_len 8192 takes 3.5 GiB of KV cache, and "
            "cpu.kv_cache_gib, at least 4 for it, holds 1.0 GiB: set at most 8192",
        ),
    ],
    ids=[
        "weights",
        "more",
        "adapters",
        "length",
        "devices",
        "free",
        "kv",
        "host",
        "products",
        "cpu-kv",
    ],
)
def test_what_cannot_fit_is_refused_with_the_setting_to_change(
    machine: Machine, plan: dict[str, Any], needs: dict[str, Any], sentence: str
) -> None:
    estimate = Estimate(replace(PLAN, **plan), replace(NEEDS, **needs), machine)
    assert any(sentence in each for each in estimate.refusals()), estimate.refusals()


def test_a_length_that_the_engine_chooses_is_not_refused() -> None:
    chosen = replace(NEEDS, auto_length=True)
    assert Estimate(PLAN, chosen, gpus(18)).refusals() == []


def test_what_fits_only_without_the_workspace_is_a_warning() -> None:
    (warning,) = Estimate(PLAN, NEEDS, gpus(20)).warnings()
    assert warning.startswith("tight: with the workspace, a rough estimate, 19.0 GiB of 18.0 GiB")
    (warning,) = Estimate(replace(PLAN, kv_bytes=GIB), NEEDS, host(18)).warnings()
    assert warning.endswith("lower cpu.kv_cache_gib or cpu.compiled_products")


def test_without_a_gpu_nothing_is_compared() -> None:
    estimate = Estimate(PLAN, NEEDS, gpus())
    assert estimate.refusals() == []
    assert "no GPU was found: nothing is compared" in table(estimate)


def test_the_table_names_every_part_and_its_settings() -> None:
    assert table(Estimate(PLAN, NEEDS, gpus(80))).splitlines() == [
        "memory             how                                         GiB  set by",
        "there is           H100, 0.9 of 80.0 GiB                      72.0  "
        "engine.gpu_memory_utilization",
        "weights            8.0 billion numbers, bfloat16              15.0  "
        "model.path, engine.tensor_parallel_size",
        "adapters           8 places of rank 16                         1.0  "
        "engine.max_loras, max_lora_rank, lora_target_modules",
        "workspace (rough)  steps of 2,048 tokens, graphs               2.0  "
        "engine.max_num_batched_tokens, max_num_seqs",
        "KV cache           what is left                               54.0  "
        "engine.kv_cache_memory_bytes",
        "                   one sequence of 8,192 tokens                1.0  "
        "engine.max_model_len, kv_cache_dtype",
        "                   holds 442,368 tokens, 54.0 such sequences        "
        "of engine.max_num_seqs 256",
    ]


def test_compiled_products_have_a_row_on_cpus() -> None:
    plan = replace(PLAN, kv_bytes=GIB, compiled_products=1024)
    found = table(Estimate(plan, replace(NEEDS, products=GIB // 2), host(60)))
    (row,) = [line for line in found.splitlines() if line.startswith("compiled products")]
    assert row.split() == "compiled products at most 1,024 0.50 cpu.compiled_products".split()
