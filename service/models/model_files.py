"""The choice of a model's files among those that a source holds."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path

from service.models.digest import TOKENIZER_FILES
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
