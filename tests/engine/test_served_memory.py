"""The estimate of memory beside what a running engine says."""

import os
import re
from types import SimpleNamespace

import pytest
from vllm.platforms import current_platform

from service.models.tensors import read_tensors
from service.plugins.planning.machine import GIB
from service.plugins.planning.memory import _device, estimate_memory, find_machine
from service.settings.load import load_settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from tests.served.server import Server


def test_a_running_engine_has_the_cache_that_was_estimated(
    tiny: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = re.search(r"KV cache size: ([\d,]+) tokens", tiny.log.read_text())
    assert logged is not None
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "KVCACHE" not in k})
    settings = load_settings(tiny.log.parent / "config.yaml")
    machine = find_machine()
    estimate = estimate_memory(engine_config(parse_engine_arguments(settings)), settings, machine)
    assert estimate.sequences is not None
    tokens = estimate.sequences * estimate.needs.length
    assert tokens == pytest.approx(int(logged[1].replace(",", "")), rel=0.1)
    stored = sum(each.end - each.start for each in read_tensors(settings.base.path).values())
    assert estimate.needs.weights == pytest.approx(stored, rel=0.1)
    assert estimate.refusals() == []
    assert GIB < machine.host_free <= machine.host_total


def test_what_the_driver_reserves_is_no_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = staticmethod(lambda number: number + 2)  # as CUDA_VISIBLE_DEVICES does
    monkeypatch.setattr(type(current_platform), "visible_device_id_to_physical_device_id", shifted)
    memory = SimpleNamespace(total=80 * GIB, reserved=GIB, free=70 * GIB, used=9 * GIB)
    driver = SimpleNamespace(
        nvmlMemory_v2=2,
        nvmlDeviceGetHandleByIndex=lambda index: f"handle {index}",
        nvmlDeviceGetMemoryInfo=lambda handle, version: memory,
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0),
        nvmlDeviceGetName=lambda handle: f"H100 ({handle})",
    )
    device = _device(driver, 1)
    assert (device.name, device.total, device.free) == ("H100 (handle 3)", 79 * GIB, 70 * GIB)
    assert device.capability == (9, 0)
