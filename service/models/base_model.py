"""Facts of the base model that its adapters are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.models.digest import base_model_digest
from service.models.quantised import packed_bits, unpacked_shape
from service.models.tensors import StoredTensor, read_tensors

EMBEDDING = "embed_tokens"


@dataclass(frozen=True, slots=True)
class ServedBase:
    """The base as the engine serves it.

    `modules` maps a module's full name to its weight's stored shape: (out, in) of a linear layer,
    (vocabulary, hidden) of the input embedding. `max_rank` is the engine's max_lora_rank.
    """

    name: str
    digest: str
    modules: Mapping[str, tuple[int, int]]
    max_rank: int


def read_base_model(folder: Path, *, name: str, max_rank: int) -> ServedBase:
    """Describe the base model in `folder` from its headers; no weights are loaded.

    Raises ConfigurationError like base_model_digest.
    """
    digest = base_model_digest(folder)
    return ServedBase(name, digest, read_modules(folder, read_tensors(folder)), max_rank)


def read_modules(folder: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
    """Shapes of the modules that an adapter may change, by full name.

    Modules are those with a two-dimensional `weight`, or with the `qweight` of AWQ and GPTQ; other
    quantised checkpoints with packed weights have none, so no adapter can be checked against them.
    A tied output layer is not stored and cannot be targeted.
    """
    packing = packed_bits(folder)
    modules: dict[str, tuple[int, int]] = {}
    for tensor_name, tensor in tensors.items():
        module, _, leaf = tensor_name.rpartition(".")
        match tensor.info.shape:
            case (rows, columns) if leaf == "weight":
                modules[module] = (rows, columns)
            case (rows, columns) if leaf == "qweight" and packing is not None:
                modules[module] = unpacked_shape(*packing, (rows, columns))
    return modules
