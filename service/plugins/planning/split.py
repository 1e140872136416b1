"""The split of a model over GPUs: tensor and pipeline parallel."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

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


def stages_of(layers: int, count: int) -> list[range]:
    """The layers of each of `count` pipeline stages, as vLLM divides them.

    Those that are left over go to the last stages but one, or are told by VLLM_PP_LAYER_PARTITION.
    """
    told = os.environ.get("VLLM_PP_LAYER_PARTITION")
    sizes = [int(size) for size in told.split(",")] if told else [layers // count] * count
    for stage in range(2, 0 if told else layers % count + 2):
        sizes[-stage] += 1
    ends = [*accumulate(sizes)]
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
