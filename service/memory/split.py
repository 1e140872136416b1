"""The split of a model over GPUs: tensor and pipeline parallel."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Split:
    """`stages` are the layers of each pipeline stage; `kv_heads` those of the whole model."""

    tensor_parallel: int
    stages: Sequence[range]
    kv_heads: int

    @property
    def layers(self) -> int:
        """Layers of the whole model."""
        return self.stages[-1].stop

    @property
    def devices(self) -> int:
        """GPUs that one engine takes."""
        return self.tensor_parallel * len(self.stages)

    def kv_share(self) -> float:
        """The part of keys' and values' projections on one GPU, which holds one head at least."""
        return max(1 / self.tensor_parallel, 1 / self.kv_heads)
