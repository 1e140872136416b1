"""A base model's identity and the shapes of its layers, read without loading the weights."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from service.models.tensors import TensorInfo, read_tensors

_WORD_BITS = 32


def packed_bits(folder: Path) -> tuple[str, int] | None:
    """Method (`awq` or `gptq`) and bits of a weight, from config.json; None for other models."""
    config = json.loads((folder / "config.json").read_bytes())
    found: Any = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(found, dict) or found.get("quant_method") not in ("awq", "gptq"):
        return None
    bits = found.get("bits") or found.get("w_bit")
    if type(bits) is not int or bits < 1 or _WORD_BITS % bits:
        return None
    return found["quant_method"], bits


def unpacked_shape(method: str, bits: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Shape (out, in) of a linear layer whose `qweight` has this shape.

    GPTQ packs along the input, (in / packed, out); AWQ along the output, (in, out / packed)
    (vllm.model_executor.layers.quantization, auto_gptq and auto_awq).
    """
    packed = _WORD_BITS // bits
    rows, columns = shape
    return (columns, rows * packed) if method == "gptq" else (columns * packed, rows)


# Any of these alone is a tokenizer; the others of TOKENIZER_FILES modify it.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
TOKENIZER_FILES = (
    *_TOKENIZERS,
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
# The saving library's version and path, which change without a change of the model.
_BOOKKEEPING = frozenset({"_name_or_path", "name_or_path", "transformers_version"})
_SAMPLE_BYTES = 4096


def base_model_digest(folder: Path) -> str:
    """Return `sha256:<hex>` of a base model in a fraction of a second, whatever its size.

    It covers config.json and the tokenizer's files (JSON by content, without the library's version
    and the path it was saved from; others by bytes), and each tensor's name, dtype, shape and first
    4096 bytes. It does not cover the rest of the weights, how tensors are spread over files, and
    generation_config.json. So the digest changes with the architecture, vocabulary, chat template,
    precision and any retraining (which changes every tensor), but not with re-sharding; it does not
    detect single weights changed on purpose.

    Raises ConfigurationError when config, tokenizer or weights are missing or malformed.
    """
    digest = hashlib.sha256()
    for part in _parts(folder):
        digest.update(len(part).to_bytes(8, "little"))  # so that no two lists of parts collide
        digest.update(part)
    return "sha256:" + digest.hexdigest()


def _parts(folder: Path) -> Iterator[bytes]:
    yield b"llm-service base model 1"
    if not folder.is_dir():
        hint = "`llm-service model fetch` writes one"
        raise ConfigurationError(f"base model {folder}: there is no such folder; {hint}")
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"base model {folder.name}: expected config.json, found none")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ConfigurationError(
            f"base model {folder.name}: expected one of {', '.join(_TOKENIZERS)}, found none"
        )
    for name in ("config.json", *TOKENIZER_FILES):
        if (folder / name).is_file():
            yield name.encode()
            yield _content(folder / name)
    for name, tensor in sorted(read_tensors(folder).items()):
        yield json.dumps([name, tensor.dtype, list(tensor.shape)]).encode()
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            yield file.read(min(_SAMPLE_BYTES, tensor.end - tensor.start))


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix != ".json":
        return raw
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path.name}: expected JSON: {error}") from error
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key not in _BOOKKEEPING}
    return json.dumps(document, sort_keys=True).encode()


EMBEDDING = "embed_tokens"


@dataclass(frozen=True, slots=True)
class ServedBase:
    """The base as the engine serves it.

    `modules` maps a module's full name to its weight's stored shape: (out, in) of a linear layer,
    (vocabulary, hidden) of the input embedding. `max_rank` is the engine's max_lora_rank.
    """

    name: str
    digest: str
    modules: Mapping[str, tuple[int, int]]
    max_rank: int


def read_base_model(folder: Path, *, name: str, max_rank: int) -> ServedBase:
    """Describe the base model in `folder` from its headers; no weights are loaded.

    Raises ConfigurationError like base_model_digest.
    """
    digest = base_model_digest(folder)
    return ServedBase(name, digest, read_modules(folder, read_tensors(folder)), max_rank)


def read_modules(folder: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[int, int]]:
    """Shapes of the modules that an adapter may change, by full name.

    Modules are those with a two-dimensional `weight`, or with the `qweight` of AWQ and GPTQ; other
    quantised checkpoints with packed weights have none, so no adapter can be checked against them.
    A tied output layer is not stored and cannot be targeted.
    """
    packing = packed_bits(folder)
    modules: dict[str, tuple[int, int]] = {}
    for tensor_name, tensor in tensors.items():
        module, _, leaf = tensor_name.rpartition(".")
        match tensor.shape:
            case (rows, columns) if leaf == "weight":
                modules[module] = (rows, columns)
            case (rows, columns) if leaf == "qweight" and packing is not None:
                modules[module] = unpacked_shape(*packing, (rows, columns))
    return modules
