"""The machine's memory, as vLLM's platform and the driver report it."""

from typing import Any

from vllm.platforms import current_platform
from vllm.utils.cpu_resource_utils import get_memory_node_info, get_visible_memory_node

from service.plugins.planning.machine import Device, Machine
from service.settings import platform

USES = (
    "reads vllm.platforms.interface:Platform.visible_device_id_to_physical_device_id",
    "reads vllm.utils.cpu_resource_utils:get_memory_node_info",
    "reads vllm.utils.cpu_resource_utils:get_visible_memory_node",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


def find_machine() -> Machine:
    """The GPUs that this process may use, without a context on any, and the host's memory."""
    # The engine's process is bound to one node of memory, by default the first that it may use.
    host = get_memory_node_info(next(iter(get_visible_memory_node()), 0))
    on_cpu = platform.installed() is platform.CPU
    devices = () if on_cpu else _devices()
    return Machine(devices, host.total_memory, host.available_memory, on_cpu)


def _devices() -> tuple[Device, ...]:
    if not current_platform.is_cuda():
        return ()
    from vllm.third_party import pynvml

    pynvml.nvmlInit()
    try:
        return tuple(_device(pynvml, number) for number in range(current_platform.device_count()))
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, number: int) -> Device:
    physical = current_platform.visible_device_id_to_physical_device_id(number)
    handle = nvml.nvmlDeviceGetHandleByIndex(physical)
    # The second version leaves out what the driver reserves, which torch does not count either.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    name = str(nvml.nvmlDeviceGetName(handle))
    return Device(name, memory.total - memory.reserved, memory.free, (major, minor))
