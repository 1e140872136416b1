"""The KV cache of one sequence, by the layers' kinds and how vLLM groups them.

vLLM gives every group of layers the same number of bytes a block: layers of one kind are split into
groups of equal size, the last one padded (its `kv_cache_utils`, "uniform page size").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_ALIKE = 1.5
"""Kinds whose numbers of layers differ by less than this factor become groups of the larger one."""


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """The cache of one layer on one device: bytes of a token, and the tokens that it sees.

    `window` is None for a layer that sees all of a sequence.
    """

    token_bytes: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The layers of one pipeline stage.

    A block holds `block` tokens. `step` tokens may be read before those that left a window are
    freed.
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
