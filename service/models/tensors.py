"""The tensors of a base model's folder, known from the safetensors headers alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigurationError
from service.models.safetensors_header import MalformedSafetensors, TensorInfo, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_INDEX_LIMIT = 64 << 20
_OTHER_KINDS = ("*.gguf", "*.bin", "*.pth")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor and the file that holds it."""

    file: Path
    info: TensorInfo


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of the base model by name; weights are not read.

    Follows Hugging Face's layout: `model.safetensors`, or `model.safetensors.index.json` and its
    shards. Raises ConfigurationError when neither is there, a header is malformed, or the index and
    the shards disagree about the file of a tensor.
    """
    if (folder / INDEX_FILE).is_file():
        return _read_shards(folder, read_index(folder / INDEX_FILE))
    if (folder / SINGLE_FILE).is_file():
        return _read_file(folder / SINGLE_FILE)
    other = next((path for kind in _OTHER_KINDS for path in sorted(folder.glob(kind))), None)
    found = "neither" if other is None else f"{other.name}, a format that is not served"
    raise ConfigurationError(
        f"base model {folder.name}: expected {SINGLE_FILE} or {INDEX_FILE}, found {found}; "
        "transformers writes them with save_pretrained"
    )


def _read_file(path: Path) -> dict[str, StoredTensor]:
    try:
        header = read_header(path)
    except (MalformedSafetensors, OSError) as error:
        raise ConfigurationError(f"base model {path.parent.name}: {path.name}: {error}") from error
    return {name: StoredTensor(path, info) for name, info in header.items()}


def read_index(path: Path) -> dict[str, str]:
    """The file of each tensor, from an index; raises ConfigurationError if it is malformed."""
    size = path.stat().st_size
    if size > _INDEX_LIMIT:
        raise ConfigurationError(f"{path.name}: expected at most {_INDEX_LIMIT} bytes, is {size}")
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{path.name}: expected a JSON weight_map: {error!r}") from error
    if not isinstance(weight_map, dict) or not all(
        isinstance(shard, str) and Path(shard).name == shard for shard in weight_map.values()
    ):
        raise ConfigurationError(f"{path.name}: weight_map must map tensors to files beside it")
    return weight_map


def _read_shards(folder: Path, weight_map: Mapping[str, str]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        for name, tensor in _read_file(folder / shard).items():
            if weight_map.get(name) != shard:
                raise ConfigurationError(
                    f"base model {folder.name}: {INDEX_FILE} places {name} in "
                    f"{weight_map.get(name)}, it lies in {shard}"
                )
            tensors[name] = tensor
    missing = sorted(weight_map.keys() - tensors.keys())
    if missing:
        raise ConfigurationError(
            f"base model {folder.name}: {INDEX_FILE} names {missing[0]}, no shard holds it"
        )
    return tensors
