"""The split of a model over GPUs: tensor and pipeline parallel."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|audio\w*|multi_modal\w*|mm_\w*)\.")


@dataclass(frozen=True, slots=True)
class Split:
    """`stages` are the layers of each pipeline stage; `kv_heads` those of the whole model."""

    tensor_parallel: int
    stages: Sequence[range]
    kv_heads: int

    @property
    def devices(self) -> int:
        """GPUs that one engine takes."""
        return self.tensor_parallel * len(self.stages)

    def kv_share(self) -> float:
        """The part of keys' and values' projections on one GPU, which holds one head at least."""
        return max(1 / self.tensor_parallel, 1 / self.kv_heads)

    def stages_of(self, layer: int) -> list[int]:
        """The stage with this layer; none for layers beyond the model's, which draft tokens."""
        return [number for number, stage in enumerate(self.stages) if layer in stage]


def is_of_a_tower(name: str) -> bool:
    """True for names below a part that reads images or sound."""
    return _TOWER.search(name) is not None


def layer_of(name: str) -> int | None:
    """The language model's layer that a tensor or module belongs to, by its name."""
    found = None if is_of_a_tower(name) else _LAYER.search(name)
    return None if found is None else int(found[1])
