"""The split of a model over GPUs: tensor and pipeline parallel."""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from service.models.tensors import TensorInfo

_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|audio\w*|multi_modal\w*|mm_\w*)\.")


@dataclass(frozen=True, slots=True)
class Split:
    """A model split over GPUs.

    `stages` are the layers of each pipeline stage; `kv_heads` are those of the whole model.
    """

    tensor_parallel: int
    stages: Sequence[range]
    kv_heads: int

    @property
    def devices(self) -> int:
        """GPUs that one engine takes."""
        return self.tensor_parallel * len(self.stages)

    def kv_share(self) -> float:
        """Share of the key and value projections on one GPU, which holds at least one head."""
        return max(1 / self.tensor_parallel, 1 / self.kv_heads)

    def stages_of(self, layer: int) -> list[int]:
        """The stage of this layer; none for layers after the model's own (draft layers)."""
        return [number for number, stage in enumerate(self.stages) if layer in stage]


def is_of_a_tower(name: str) -> bool:
    """True for names below a part that encodes images or sound."""
    return _TOWER.search(name) is not None


def layer_of(name: str) -> int | None:
    """The language model's layer that a tensor or module belongs to, by its name."""
    found = None if is_of_a_tower(name) else _LAYER.search(name)
    return None if found is None else int(found[1])


def stages_of(layers: int, count: int) -> list[range]:
    """The layers of each of `count` pipeline stages, as vLLM divides them.

    Remaining layers go one each to the stages before the last one, backwards from the end.
    VLLM_PP_LAYER_PARTITION overrides the division.
    """
    told = os.environ.get("VLLM_PP_LAYER_PARTITION")
    sizes = [int(size) for size in told.split(",")] if told else [layers // count] * count
    for stage in range(2, 0 if told else layers % count + 2):
        sizes[-stage] += 1
    ends = [*accumulate(sizes)]
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


_INPUT = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in)\.")
_OUTPUT = re.compile(
    r"(?:^|\.)(?:lm_head|embed_out|output_layer)\.|^(?:model\.)?(?:language_model\.)?(?:model\.)?norm\."
)
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# vLLM keeps these whole on every GPU: routers, and the first projections of latent attention.
_WHOLE = frozenset(
    """gate router shared_expert_gate q_a_proj kv_a_proj_with_mqa weights_proj wk""".split()
)
_KV = frozenset({"k_proj", "v_proj"})
_UNUSED = (".rotary_emb.inv_freq",)


def weight_bytes(
    tensors: Mapping[str, TensorInfo],
    split: Split,
    *,
    dtype_bytes: int,
    tied: bool,
    online_bits: int | None = None,
) -> list[int]:
    """Bytes of the weights on one GPU of each pipeline stage.

    Weights stored as floating point are held in the engine's type of `dtype_bytes`; quantised ones,
    and scales, as they are stored. With `tied` embeddings a stored output layer is not loaded.
    `online_bits` is the size of a linear layer's weight that the engine itself quantises.
    """
    held = [0.0] * len(split.stages)
    for name, info in tensors.items():
        if name.endswith(_UNUSED) or (tied and ".lm_head." in f".{name}"):
            continue
        size = _bytes(name, info, dtype_bytes, online_bits) * _share(name, info, split)
        for stage in _stages(name, split, tied):
            held[stage] += size
    return [math.ceil(each) for each in held]


def parameters(tensors: Mapping[str, TensorInfo]) -> int:
    """Numbers in all tensors, as they are stored: packed integers count as one."""
    return sum(math.prod(info.shape) for info in tensors.values())


def _bytes(name: str, info: TensorInfo, dtype_bytes: int, online_bits: int | None) -> float:
    stored = info.end - info.start
    leaf = name.rpartition(".")[2]
    if info.dtype not in _FLOATS or "scale" in leaf:
        return stored
    linear = len(info.shape) > 1 and not _INPUT.search(name) and not _OUTPUT.search(name)
    if online_bits is not None and linear and _module(name) not in _WHOLE:
        return math.prod(info.shape) * online_bits / 8
    return math.prod(info.shape) * dtype_bytes


def _share(name: str, info: TensorInfo, split: Split) -> float:
    module = _module(name)
    if len(info.shape) < 2 or module in _WHOLE:
        return 1.0
    return split.kv_share() if module in _KV else 1 / split.tensor_parallel


def _module(name: str) -> str:
    parts = name.split(".")
    return parts[-2] if len(parts) > 1 else name


def _stages(name: str, split: Split, tied: bool) -> Iterator[int]:
    """Pipeline stages that hold a tensor."""
    layer = layer_of(name)
    if layer is not None:
        yield from split.stages_of(layer)
    elif _OUTPUT.search(name):
        yield len(split.stages) - 1
    else:
        yield 0
        if tied and len(split.stages) > 1 and _INPUT.search(name):
            yield len(split.stages) - 1


_SUMMED = frozenset({"o_proj", "down_proj", "out_proj", "dense_4h_to_h", "c_proj", "fc2", "w2"})
"""Layers that GPUs split by input (row parallel); other layers are split by output."""
_WHOLE_LAYERS = frozenset("gate router shared_expert_gate q_a_proj kv_a_proj_with_mqa".split())
_VOCABULARY = frozenset({"embed_tokens", "lm_head", "wte"})
_PACKED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"} | {
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
_SLICES = {"qkv_proj": 3, "gate_up_proj": 2}


@dataclass(frozen=True, slots=True)
class Slots:
    """Adapter slots: `count` of them, for ranks up to `rank`, with `dtype_bytes` for each number.

    `targets` are the names of the modules that adapters may change, by their own names or by those
    of vLLM's packed modules; None means every linear layer and, with `embeddings`, the embeddings.
    `sharded` is `fully_sharded_loras`. With `diagonal`, which the grouped operators on CPUs need,
    the second matrices of packed layers stand on the diagonal of one matrix.
    """

    count: int
    rank: int
    dtype_bytes: int
    targets: Collection[str] | None = None
    embeddings: bool = True
    sharded: bool = False
    diagonal: bool = False


def slot_bytes(
    modules: Mapping[str, tuple[int, int]], slots: Slots, split: Split, *, tied: bool
) -> list[int]:
    """Bytes of all adapter slots on one GPU of each pipeline stage.

    `modules` maps full names to (outputs, inputs) of the whole model; (vocabulary, hidden) of
    embeddings. With `tied` embeddings the output layer has slots too, though it is not stored.
    """
    held = [0.0] * len(split.stages)
    for name, shape in modules.items():
        leaf = name.rpartition(".")[2]
        if is_of_a_tower(name) or not _is_target(leaf, slots):
            continue
        numbers = _numbers(leaf, shape, slots, split)
        for stage in _stages_of_slots(name, split):
            held[stage] += numbers
        if tied and leaf in ("embed_tokens", "wte") and _is_target("lm_head", slots):
            held[-1] += numbers
    return [int(each * slots.count * slots.dtype_bytes) for each in held]


def _is_target(leaf: str, slots: Slots) -> bool:
    """True for a target and for modules that vLLM packs into one with a target."""
    if slots.targets is None:
        return slots.embeddings or leaf not in _VOCABULARY
    packed = _PACKED.get(leaf)
    family = {leaf, packed, *(name for name, into in _PACKED.items() if into == packed)}
    return not family.isdisjoint(slots.targets)


def _numbers(leaf: str, shape: tuple[int, int], slots: Slots, split: Split) -> float:
    """Number of values in both matrices of one adapter slot."""
    outputs, inputs = float(shape[0]), float(shape[1])
    first = second = float(slots.rank)
    parallel = split.tensor_parallel
    if leaf in _SUMMED:
        inputs /= parallel
        outputs /= parallel if slots.sharded else 1
    elif leaf not in _WHOLE_LAYERS | _VOCABULARY:
        outputs *= split.kv_share() if leaf in ("k_proj", "v_proj") else 1 / parallel
        first /= parallel if slots.sharded else 1
    if slots.diagonal:
        second *= _SLICES.get(_PACKED.get(leaf, ""), 1)
    return first * inputs + second * outputs


def _stages_of_slots(name: str, split: Split) -> list[int]:
    layer = layer_of(name)
    if layer is not None:
        return split.stages_of(layer)
    return [len(split.stages) - 1 if "lm_head" in name else 0]
