"""Facts of the base model that its adapters are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.model.digest import base_model_digest
from service.model.tensors import read_tensors

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

    Modules are those with a two-dimensional `weight`; a quantised checkpoint with packed weights
    under other names has none, so no adapter can be checked against it. A tied output layer is not
    stored and cannot be targeted. Raises ConfigurationError like base_model_digest.
    """
    modules: dict[str, tuple[int, int]] = {}
    for tensor_name, tensor in read_tensors(folder).items():
        module, _, leaf = tensor_name.rpartition(".")
        match tensor.info.shape:
            case (rows, columns) if leaf == "weight":
                modules[module] = (rows, columns)
    return ServedBase(name, base_model_digest(folder), modules, max_rank)
