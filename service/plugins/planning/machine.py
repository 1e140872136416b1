"""The machine, and the memory needed beside weights: KV cache, products, workspace."""

from collections import Counter
from collections.abc import Sequence
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
    """GPUs that this process may use, and the host's memory in bytes, within a container's limit.

    `devices` is empty on CPUs, where `on_cpu` is true, and if no GPU was found.
    """

    devices: tuple[Device, ...]
    host_total: int
    host_free: int
    on_cpu: bool


_ALIKE = 1.5
"""Kinds of layers whose numbers differ by less than this factor are grouped by the larger."""


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """The KV cache of one layer on one device: bytes per token, and the attention window.

    `window` is None for a layer that attends to the whole sequence.
    """

    token_bytes: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The layers of one pipeline stage.

    A block holds `block` tokens. Up to `step` tokens are computed before blocks outside of the
    attention window are freed.
    """

    layers: Sequence[CacheLayer]
    block: int
    step: int
    length: int
    """Tokens of the longest sequence."""

    def sequence_bytes(self, length: int | None = None) -> int:
        """Bytes of one sequence of so many tokens, by default of the longest."""
        length = self.length if length is None else length
        kinds = Counter(self.layers)
        fewest, most = min(kinds.values()), max(kinds.values())
        size = most if most < fewest * _ALIKE else fewest
        page = max(kind.token_bytes for kind in kinds) * self.block
        return sum(
            -(-count // size) * size * page * self._blocks(kind, length, page)
            for kind, count in kinds.items()
        )

    def _blocks(self, kind: CacheLayer, length: int, page: int) -> int:
        """Blocks of one layer; one with smaller tokens has more of them in a block."""
        tokens = page // kind.token_bytes
        if kind.window is None:
            return -(-length // tokens)
        return -(-min(kind.window - 1 + self.step, length) // tokens) + 1

    def longest(self, available: int) -> int:
        """The longest sequence, in tokens, that so many bytes hold; 0 for none."""
        low, high = 0, self.length
        while low < high:
            middle = (low + high + 1) // 2
            if self.sequence_bytes(middle) <= available:
                low = middle
            else:
                high = middle - 1
        return low


_OWN_BYTES = 550_000
"""Bytes of one matrix product compiled by vLLM's oneDNN, for weights of any size."""
_ADAPTER_BYTES = 600_000
"""Bytes of one matrix product compiled by torch's oneDNN, for weights of any size."""


@dataclass(frozen=True, slots=True)
class Products:
    """Compiled matrix products in a worker's full caches: vLLM's, and torch's for adapters."""

    own: int
    of_adapters: int

    @property
    def count(self) -> int:
        """The number of all products."""
        return self.own + self.of_adapters

    @property
    def size(self) -> int:
        """Bytes by which the products make the worker's resident memory grow."""
        return self.own * _OWN_BYTES + self.of_adapters * _ADAPTER_BYTES


_DRIVER = GIB // 4
_COMMUNICATION = GIB // 2
_GRAPHS = GIB // 2
_PROCESSES = 2 * GIB
"""Bytes of Python, torch and vLLM in the two processes of a service on CPUs."""


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
    """Bytes that one step of the engine takes on one GPU, and those that libraries hold.

    It counts the hidden states three times, the widest layer's output three times, and the sampled
    logits as stored and in three float32 copies; then constants for the driver, for communication
    between GPUs and for captured graphs, or for the processes on CPUs.
    """
    states = step.tokens * (3 * step.hidden + 3 * step.inner / parallel) * step.dtype_bytes
    logits = step.sequences * step.vocabulary * (step.dtype_bytes + 12)
    if on_cpu:
        return int(states + logits) + _PROCESSES
    fixed = _DRIVER + _COMMUNICATION * (parallel > 1) + _GRAPHS * graphs
    return int(states + logits) + fixed
