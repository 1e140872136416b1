"""Base models on the Hugging Face Hub."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from service.errors import ConfigurationError

IGNORED = (
    *("*.bin", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.ot", "*.pt", "*.pth", "*.tflite"),
    *("consolidated*", "original/*", "onnx/*", "openvino/*"),
)
"""Patterns of files that the engine does not read: other formats, often of the same weights."""

_SOURCE = re.compile(r"hf://([\w.-]+/[\w.-]+)@([\w./-]+)")


def fetch_model(source: str, folder: Path, ignored: Sequence[str] = IGNORED) -> None:
    """Bring a model into a folder that appears whole; nothing happens if it is there already.

    `source` is `hf://org/name@revision`. Raises ConfigurationError for another form, or with the
    reason of the Hub.
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ConfigurationError(
            f"source: must be hf://ORG/NAME@REVISION, the revision best a commit, got {source!r}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").is_file():
            return
        work = folder.parent / f".fetch-{folder.name}"
        shutil.rmtree(work, ignore_errors=True)  # of a fetch that was killed
        try:
            download(match[1], match[2], work, ignored)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def download(repository: str, revision: str, folder: Path, ignored: Sequence[str]) -> None:
    """Write the files of a revision that match no pattern; ConfigurationError if they cannot be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot_download(
            repository, revision=revision, local_dir=folder, ignore_patterns=list(ignored)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"hf://{repository}@{revision}: {reason}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
