"""Bytes of a base's weights on each GPU, from the tensors' names, types and shapes alone."""

import math
import re
from collections.abc import Iterator, Mapping

from service.models.safetensors_header import DTYPE_BITS, TensorInfo
from service.plugins.planning.split import Split, layer_of

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
    stored = math.prod(info.shape) * DTYPE_BITS[info.dtype] / 8
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
