"""A base model whose linear layers have weights of 8 bits, made from one in floating point.

Each output of a layer has one scale, its largest weight's size over 127, and weights are rounded to
the nearest multiple of it; the engine rounds activations likewise, for each token, as it serves
(W8A8; Dettmers et al. 2022, "LLM.int8()", section 2.1, vector-wise quantisation). Embeddings, norms
and the output layer stay as they are. The folder is in the format of compressed-tensors, which
vLLM, transformers and SGLang read.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from service.models.fetch import IGNORED, PICKLES
from service.models.file_list import FileList, listed_files, pin_folder
from service.models.tensors import INDEX_FILE, TensorInfo, read_tensors

if TYPE_CHECKING:
    import torch

_BITS = 8
_LARGEST = 2 ** (_BITS - 1) - 1
_WEIGHT, _SCALE = ".weight", ".weight_scale"
_FLOATS = frozenset({"F32", "F16", "BF16"})
_OUTPUT = "lm_head"
_MATRIX = 2
_CARD = "README.md"


def quantise_model(source: Path, folder: Path) -> FileList:
    """Write the model in `source` with weights of 8 bits to `folder`, which appears once whole.

    One file of weights is in memory at a time. Returns the new files' list, which is in the folder
    too. Raises ConfigurationError if `folder` exists, or `source` holds no model in floating point
    whose layers are linear; a mixture of experts is none.
    """
    if folder.exists():
        raise ConfigurationError(f"{folder}: there is such a folder already")
    digest = base_model_digest(source)
    config = json.loads((source / "config.json").read_bytes())
    if "quantization_config" in config:
        raise ConfigurationError(f"{source}: its weights are quantised already (config.json)")
    tensors = read_tensors(source)
    layers = _linear_layers(source, tensors)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        made = Path(name) / folder.name
        made.mkdir()
        weights = sorted({tensor.file for tensor in tensors.values()})
        for other in listed_files(source) - {path.name for path in weights} - {INDEX_FILE, _CARD}:
            if any(fnmatch(other, pattern) for pattern in (*PICKLES, *IGNORED)):
                continue  # the same weights in another format
            (made / other).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / other, made / other)
        places = {key: path.name for path in weights for key in _rewrite(path, made, layers)}
        if len(weights) > 1:
            index = {"metadata": {}, "weight_map": dict(sorted(places.items()))}
            (made / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n")
        config["quantization_config"] = _described()
        (made / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (made / _CARD).write_text(_card(source, digest, len(layers)))
        for path in made.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)
        listed = pin_folder(made, f"quantised from {digest}")
        made.rename(folder)
    return listed


def _linear_layers(source: Path, tensors: Mapping[str, TensorInfo]) -> frozenset[str]:
    """Names of the weights of linear layers but the output layer's, as the files have them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    linear = {
        f"{name}{_WEIGHT}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] != _OUTPUT
    }
    stored = {name for name, tensor in tensors.items() if tensor.dtype in _FLOATS}
    if other := sorted(linear - stored):
        raise ConfigurationError(f"{source}: holds no {other[0]} in floating point to quantise")
    if not linear or any(len(weight.shape) > _MATRIX for weight in model.parameters()):
        raise ConfigurationError(f"{source}: has layers that are not linear, such as experts")
    return frozenset(linear)


def _rewrite(path: Path, folder: Path, layers: frozenset[str]) -> list[str]:
    """Write a file of weights anew into `folder`; returns the names of its tensors."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    for name in layers & tensors.keys():
        weight, scale = quantise_weight(tensors[name])
        tensors[name], tensors[name.removesuffix(_WEIGHT) + _SCALE] = weight, scale
    save_file(tensors, folder / path.name, metadata={"format": "pt"})
    return list(tensors)


def quantise_weight(weight: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Weights of 8 bits (outputs x inputs) and their scales (outputs x 1), of which the product is
    nearest to a layer's weight. An output of zeros keeps them."""
    import torch

    exact = weight.float()
    scale = (exact.abs().amax(dim=1, keepdim=True) / _LARGEST).clamp_min(torch.finfo().tiny)
    return (exact / scale).round().to(torch.int8), scale


def _described() -> dict[str, Any]:
    """What compressed-tensors says of weights and activations (its QuantizationArgs)."""
    of_both = {"num_bits": _BITS, "type": "int", "symmetric": True, "group_size": None}
    scheme = {
        "targets": ["Linear"],
        "weights": of_both | {"strategy": "channel", "dynamic": False},
        "input_activations": of_both | {"strategy": "token", "dynamic": True},
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": [_OUTPUT],
        "kv_cache_scheme": None,
        "config_groups": {"group_0": scheme},
    }


def _card(source: Path, digest: str, layers: int) -> str:
    own = source / _CARD
    head = (
        f"The weights of {layers} linear layers are rounded to {_BITS} bits, one scale for each "
        f"output, and activations are, for each token, while it serves. Made by `llm-service model "
        f"quantise` from {digest}.\n"
    )
    return head if not own.is_file() else f"{head}\nThe original's card:\n\n{own.read_text()}"
