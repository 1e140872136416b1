"""The choice of a model's files among those that a source holds."""

import logging
import time
from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path

from service.errors import ConfigurationError
from service.models.base_model import TOKENIZER_FILES, base_model_digest
from service.models.file_list import (
    FileList,
    check_files,
    digests_of,
    listed_files,
    read_file_list,
)
from service.models.tensors import INDEX_FILE, SINGLE_FILE, read_index

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib")
"""Patterns of files that run code when they are read; these are never fetched."""

IGNORED = (
    *("*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "*.npz", "*.py"),
    *("consolidated*", "original/*", "onnx/*", "openvino/*"),
)
"""Patterns of files that the engine does not read: other formats, often of the same weights."""

KNOWN_FILES = (
    "config.json",
    *TOKENIZER_FILES,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "LICENSE",
    "README.md",
    INDEX_FILE,
    SINGLE_FILE,
)
"""Files that are looked for at a source that cannot list its files."""


def chosen(names: Collection[str], ignored: Sequence[str]) -> set[str]:
    """The names that match no pattern, without hidden files and folders."""
    left_out = (*PICKLES, *ignored)
    return {
        name
        for name in names
        if not any(part.startswith(".") for part in name.split("/"))
        and not any(fnmatch(name, pattern) for pattern in left_out)
    }


def without_duplicates(names: Collection[str], shards: Collection[str]) -> set[str]:
    """The names without weights that the engine does not read.

    It reads the `shards` of an index, or else the single file.
    """
    read = set(shards) or {SINGLE_FILE}
    return {name for name in names if name in read or not name.endswith(".safetensors")}


def shards_of(folder: Path) -> set[str]:
    """Files that the index in a folder names, none without one; ConfigurationError."""
    index = folder / INDEX_FILE
    return set(read_index(index).values()) if index.is_file() else set()


_log = logging.getLogger(__name__)


def pin_folder(folder: Path, source: str) -> FileList:
    """The list of a folder's files, written into it unless it is there.

    `source` is the address to write. Raises ConfigurationError if the folder holds no model.
    """
    base_model_digest(folder)
    listed = read_file_list(folder)
    if listed is None:
        listed = FileList(source=source, files=digests_of(folder, listed_files(folder)))
        listed.write(folder)
    return listed


def checked_digest(folder: Path, pin: str | None, setting: str = "model.digest") -> str:
    """The digest of the base, to which its adapters are bound, if the folder is the pinned one.

    A `pin` is the digest of the folder's list of files, and then every byte is read, or the base's
    own, which costs no reading. Raises ModelRefused naming the file that differs,
    ConfigurationError, naming the `setting`, for any other pin.
    """
    listed = read_file_list(folder) if pin is not None else None
    if listed is not None and listed.digest == pin:
        started = time.monotonic()
        check_files(folder, listed)
        _log.info("%s: every file is the pinned one (%.1f s)", folder, time.monotonic() - started)
        return base_model_digest(folder)
    digest = base_model_digest(folder)
    if pin in (None, digest):
        return digest
    files = "" if listed is None else f" or, of its files, {listed.digest}"
    raise ConfigurationError(f"{setting}: must be that of {folder}, {digest}{files}, got {pin}")
