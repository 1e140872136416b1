"""Defaults that depend on where the engine computes: on CPUs or on NVIDIA GPUs."""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True)
class Platform:
    """Times that suit one build of vLLM, in seconds.

    `stall_s` is the default of `watchdog.stall_s`; `warm_up_s` is what the engine's first requests
    may take together. On GPUs a kernel is compiled when it is first used, which takes seconds and
    leaves the device without a step.
    """

    name: str
    stall_s: float
    warm_up_s: float


CPU = Platform("cpu", stall_s=6.0, warm_up_s=120.0)
CUDA = Platform("cuda", stall_s=30.0, warm_up_s=600.0)


def installed() -> Platform:
    """Platform of the build of vLLM that is installed; it is the build that decides, not the host.

    vLLM looks at the same names and variable (vllm.platforms), but also asks for a device, and to
    import it takes seconds. Without vLLM the answer is `CPU`.
    """
    if os.environ.get("VLLM_TARGET_DEVICE") == "cpu":
        return CPU
    try:
        return CPU if "cpu" in version("vllm") else CUDA
    except PackageNotFoundError:
        return CPU
