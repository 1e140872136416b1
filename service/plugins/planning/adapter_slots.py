"""Bytes of the places that the engine keeps for adapters, one GPU's share of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from service.plugins.planning.split import Split, is_of_a_tower, layer_of

_SUMMED = frozenset({"o_proj", "down_proj", "out_proj", "dense_4h_to_h", "c_proj", "fc2", "w2"})
"""Layers whose input is split over GPUs; other layers' output is."""
_WHOLE = frozenset("gate router shared_expert_gate q_a_proj kv_a_proj_with_mqa".split())
_VOCABULARY = frozenset({"embed_tokens", "lm_head", "wte"})
_PACKED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"} | {
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
_SLICES = {"qkv_proj": 3, "gate_up_proj": 2}


@dataclass(frozen=True, slots=True)
class Slots:
    """Room for adapters: `count` places for a rank of at most `rank`, in `dtype_bytes` a number.

    `targets` are the names of the only modules that adapters may change, as they are or as vLLM
    packs them. None is every linear layer, and with `embeddings` these too. `sharded` is
    `fully_sharded_loras`. On CPUs the grouped operators keep the second matrices of packed layers
    on the diagonal of one matrix (`diagonal`).
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
    """Bytes of all places on one GPU of each pipeline stage.

    `modules` maps full names to (outputs, inputs) of the whole model; (vocabulary, hidden) of
    embeddings. With `tied` embeddings the output layer has places too, though it is not stored.
    """
    held = [0.0] * len(split.stages)
    for name, shape in modules.items():
        leaf = name.rpartition(".")[2]
        if is_of_a_tower(name) or not _is_target(leaf, slots):
            continue
        numbers = _numbers(leaf, shape, slots, split)
        for stage in _stages(name, split):
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
    """Numbers of both matrices of one place."""
    outputs, inputs = float(shape[0]), float(shape[1])
    first = second = float(slots.rank)
    parallel = split.tensor_parallel
    if leaf in _SUMMED:
        inputs /= parallel
        outputs /= parallel if slots.sharded else 1
    elif leaf not in _WHOLE | _VOCABULARY:
        outputs *= split.kv_share() if leaf in ("k_proj", "v_proj") else 1 / parallel
        first /= parallel if slots.sharded else 1
    if slots.diagonal:
        second *= _SLICES.get(_PACKED.get(leaf, ""), 1)
    return first * inputs + second * outputs


def _stages(name: str, split: Split) -> list[int]:
    layer = layer_of(name)
    if layer is not None:
        return split.stages_of(layer)
    return [len(split.stages) - 1 if "lm_head" in name else 0]
