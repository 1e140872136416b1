"""The memory of the machine that the engine will run on."""

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU: its memory and its free memory, in bytes; `capability` as in (9, 0)."""

    name: str
    total: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs that this process may use, and the host's memory in bytes, a container's limit applied.

    On CPUs, and where no GPU was found, `devices` is empty; `on_cpu` tells these apart.
    """

    devices: tuple[Device, ...]
    host_total: int
    host_free: int
    on_cpu: bool
