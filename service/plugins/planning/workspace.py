"""Memory beside weights, adapters and KV cache; a rough estimate, unlike these."""

from dataclasses import dataclass

from service.plugins.planning.machine import GIB

_DRIVER = GIB // 4
_COMMUNICATION = GIB // 2
_GRAPHS = GIB // 2
_PROCESSES = 2 * GIB
"""Python, torch and vLLM in the two processes of a service on CPUs."""


@dataclass(frozen=True, slots=True)
class Step:
    """The largest step of the engine and the sizes that its tensors have."""

    tokens: int
    sequences: int
    hidden: int
    inner: int
    vocabulary: int
    dtype_bytes: int


def workspace_bytes(step: Step, *, parallel: int, graphs: bool, on_cpu: bool) -> int:
    """Bytes that one step of the engine takes on one GPU, with what libraries hold.

    Counted are the hidden states three times, the widest layer's output three times, and the
    sampled logits as stored and in three float32 copies; then constants for the driver, for
    communication between GPUs and for captured graphs, or for the processes on CPUs.
    """
    states = step.tokens * (3 * step.hidden + 3 * step.inner / parallel) * step.dtype_bytes
    logits = step.sequences * step.vocabulary * (step.dtype_bytes + 12)
    if on_cpu:
        return int(states + logits) + _PROCESSES
    fixed = _DRIVER + _COMMUNICATION * (parallel > 1) + _GRAPHS * graphs
    return int(states + logits) + fixed
