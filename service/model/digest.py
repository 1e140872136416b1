"""What a base model is, in one digest."""

import hashlib
import json
from pathlib import Path

from service.errors import ConfigurationError

_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)


def base_model_digest(folder: Path) -> str:
    """`sha256:` over configuration, tokenizer and weight index, in a fixed order.

    A single-file model's index is its safetensors header: names, types, shapes and offsets. The
    weights themselves are not read, so that a large model is identified at once.
    Raises ConfigurationError when the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"model.path: {folder} holds no config.json")
    digest = hashlib.sha256()
    for name in _FILES:
        if (file := folder / name).is_file():
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        digest.update(f"{weights.name}\0".encode())
        digest.update(_header(weights))
    return f"sha256:{digest.hexdigest()}"


def _header(weights: Path) -> bytes:
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > 100 << 20:
            raise ConfigurationError(f"{weights}: not a safetensors file")
        header = file.read(size)
    json.loads(header)
    return header
