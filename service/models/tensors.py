"""The header of a safetensors file, read as untrusted input, and the tensors of a base model.

The file (huggingface/safetensors, README "Format") begins with eight bytes of little-endian length
N and N bytes of JSON `{name: {dtype, shape, data_offsets: [begin, end]}}`; the tensors' bytes
follow without holes up to its end.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from service.errors import ConfigurationError

ADAPTER_HEADER_LIMIT = 4 << 20
BASE_HEADER_LIMIT = 100 << 20

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class MalformedSafetensors(ValueError):
    """A rule of the format is broken; the message has rule, expected and found value."""

    def __init__(self, reason: str, expected: object, found: object):
        super().__init__(f"{reason}: expected {expected}, found {found}")
        self.reason = reason
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Place of one tensor: `start` and `end` are byte offsets from the start of its file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(
    path: Path,
    *,
    max_header_bytes: int = BASE_HEADER_LIMIT,
    dtypes: Collection[str] | None = None,
) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file by name, reading nothing but its header.

    Raises MalformedSafetensors for a header over `max_header_bytes`, whatever the safetensors
    library refuses (such as offsets that overlap, leave holes or leave the file), a name that is
    given twice, and a dtype outside `dtypes`.
    """
    with path.open("rb") as file:
        prefix, first = file.read(8), file.read(1)
        # A header of 1,408 bytes begins like a pickle, too.
        if first != b"{" and prefix.startswith(_PICKLE_STARTS):
            raise MalformedSafetensors("a pickle, not safetensors", "safetensors", prefix[:4].hex())
        length = int.from_bytes(prefix, "little")
        if length > max_header_bytes:
            raise MalformedSafetensors(
                "header is too large", f"at most {max_header_bytes} bytes", f"{length} bytes"
            )
        try:
            file.seek(len(prefix))
            with safe_open(path, framework="np"):
                raw = file.read(length)
            document = json.loads(raw.decode(), object_pairs_hook=_without_duplicates)
        except MalformedSafetensors:
            raise
        except (SafetensorError, ValueError) as error:
            raise MalformedSafetensors("not safetensors", "a valid file", error) from error
    document.pop("__metadata__", None)
    tensors = {}
    for name, entry in document.items():
        dtype, (begin, end) = entry["dtype"], entry["data_offsets"]
        if dtypes is not None and dtype not in dtypes:
            raise MalformedSafetensors(f"dtype of {name}", "one of " + ", ".join(dtypes), dtype)
        shape, start = tuple(entry["shape"]), 8 + length
        tensors[name] = TensorInfo(path, dtype, shape, start + begin, start + end)
    return tensors


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise MalformedSafetensors("a key is given twice in the header", "unique keys", name)
        document[name] = value
    return document


SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_INDEX_LIMIT = 64 << 20
_OTHER_KINDS = ("*.gguf", "*.bin", "*.pth")


def read_tensors(folder: Path) -> dict[str, TensorInfo]:
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


def _read_file(path: Path) -> dict[str, TensorInfo]:
    try:
        return read_header(path)
    except (MalformedSafetensors, OSError) as error:
        raise ConfigurationError(f"base model {path.parent.name}: {path.name}: {error}") from error


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


def _read_shards(folder: Path, weight_map: Mapping[str, str]) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
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
