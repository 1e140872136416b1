"""Memory of the products of matrices that oneDNN keeps compiled (CPU build)."""

from dataclasses import dataclass

_OWN_BYTES = 550_000
"""Bytes of one product in vLLM's oneDNN, for weights of any size."""
_ADAPTER_BYTES = 600_000
"""Bytes of one product in torch's oneDNN, for weights of any size."""


@dataclass(frozen=True, slots=True)
class Products:
    """Numbers of products in one worker whose caches are full: vLLM's own, and torch's."""

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
