"""Memory of the products of matrices that oneDNN keeps compiled (CPU build)."""

from dataclasses import dataclass

_BYTES = 550_000
_BYTES_OF_ADAPTERS = 600_000
"""One product's in vLLM's oneDNN and in torch's, for weights of any size."""


@dataclass(frozen=True, slots=True)
class Products:
    """Products in one worker whose caches are full: vLLM's, and torch's for adapters."""

    own: int
    of_adapters: int

    @property
    def count(self) -> int:
        return self.own + self.of_adapters

    @property
    def size(self) -> int:
        """Bytes, as the worker's resident memory grows by them."""
        return self.own * _BYTES + self.of_adapters * _BYTES_OF_ADAPTERS
