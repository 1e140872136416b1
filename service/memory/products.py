"""Memory of the products of matrices that oneDNN keeps compiled (CPU build)."""

_BYTES = 550_000
_BYTES_OF_ADAPTERS = 600_000
"""One product's in vLLM's oneDNN and in torch's, as the resident memory of a worker grows."""


def product_bytes(count: int, *, adapters: bool, workers: int) -> int:
    """Bytes of `count` products in each of an engine's workers, once its caches are full.

    Adapters are multiplied by torch's oneDNN, which keeps as many beside those of vLLM's.
    """
    return count * workers * (_BYTES + _BYTES_OF_ADAPTERS * adapters)
