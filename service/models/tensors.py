"""The header of a safetensors file, parsed as untrusted input.

The format (huggingface/safetensors, README "Format"): eight bytes of little-endian length N, N
bytes of UTF-8 JSON `{name: {dtype, shape, data_offsets: [begin, end]}}` plus an optional
`__metadata__` of strings, then the tensors' bytes without holes up to the end of the file.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigurationError

ADAPTER_HEADER_LIMIT = 4 << 20
BASE_HEADER_LIMIT = 100 << 20

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class MalformedSafetensors(ValueError):
    """A rule of the format is broken; names the rule, the expected and the found value."""

    def __init__(self, reason: str, expected: object, found: object):
        super().__init__(f"{reason}: expected {expected}, found {found}")
        self.reason = reason
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Place of one tensor: `start` and `end` are byte offsets from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(
    path: Path,
    *,
    max_header_bytes: int = BASE_HEADER_LIMIT,
    dtypes: Collection[str] = DTYPE_BITS,
) -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file by name, reading nothing but its header.

    Raises MalformedSafetensors for a header over `max_header_bytes`, JSON that is not the
    format's, a dtype outside `dtypes`, and offsets that overlap, leave holes or leave the file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if prefix.startswith(_PICKLE_STARTS):
            raise MalformedSafetensors("a pickle, not safetensors", "safetensors", prefix[:4].hex())
        if len(prefix) < 8:
            raise MalformedSafetensors("file is too short", "at least 8 bytes", f"{size} bytes")
        length = int.from_bytes(prefix, "little")
        if length > max_header_bytes:
            raise MalformedSafetensors(
                "header is too large", f"at most {max_header_bytes} bytes", f"{length} bytes"
            )
        if length > size - 8:
            raise MalformedSafetensors(
                "file is truncated in its header", f"{length + 8} bytes or more", f"{size} bytes"
            )
        raw = file.read(length)
    document = _parse_json(raw)
    _check_metadata(document.pop("__metadata__", {}))
    data_start = 8 + length
    tensors = {
        name: _parse_tensor(name, entry, data_start, dtypes) for name, entry in document.items()
    }
    _check_layout(tensors, data_start, size)
    return tensors


def _parse_json(raw: bytes) -> dict[str, object]:
    try:
        # RecursionError and ValueError: only the interpreter bounds nesting and a number's digits.
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except MalformedSafetensors:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedSafetensors("header is not JSON", "a JSON object", error) from error
    if not isinstance(document, dict):
        raise MalformedSafetensors(
            "header is not an object", "a JSON object", type(document).__name__
        )
    return document


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for name, value in pairs:
        if name in document:
            raise MalformedSafetensors("a key is given twice in the header", "unique keys", name)
        document[name] = value
    return document


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise MalformedSafetensors("__metadata__ is malformed", "a map of strings", metadata)


def _parse_tensor(name: str, entry: object, data_start: int, dtypes: Collection[str]) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise MalformedSafetensors(
            f"entry of {name} is malformed", "dtype, shape and data_offsets", found
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise MalformedSafetensors(f"dtype of {name}", "one of " + ", ".join(dtypes), dtype)
    if not _are_sizes(shape):
        raise MalformedSafetensors(f"shape of {name}", "sizes of at least 0", shape)
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise MalformedSafetensors(f"offsets of {name}", "[begin, end], begin <= end", offsets)
    bits = _bits(name, dtype, shape)
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise MalformedSafetensors(
            f"offsets of {name} do not fit its shape {shape} of {dtype}",
            f"{bits // 8} bytes",
            f"{offsets[1] - offsets[0]} bytes",
        )
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _bits(name: str, dtype: str, shape: list[int]) -> int:
    bits = DTYPE_BITS[dtype]
    for size in shape:
        bits *= size
        if bits >= 1 << 64:
            raise MalformedSafetensors(f"shape of {name}", "a size of less than 2^64 bits", shape)
    return bits


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 63 for value in values
    )


def _check_layout(tensors: Mapping[str, TensorInfo], data_start: int, size: int) -> None:
    position = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != position:
            fault = "overlap" if tensor.start < position else "leave a hole"
            raise MalformedSafetensors(
                f"offsets of {name} {fault}",
                f"begin {position - data_start}",
                f"begin {tensor.start - data_start}",
            )
        position = tensor.end
    if position > size:
        raise MalformedSafetensors("file is truncated", f"{position} bytes", f"{size} bytes")
    if position < size:
        raise MalformedSafetensors(
            "bytes follow the last tensor", f"{position} bytes", f"{size} bytes"
        )


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
