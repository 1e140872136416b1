"""The digest of a base model on disk."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from service.errors import ConfigurationError
from service.models.tensors import read_tensors

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

    Binds: config.json and the tokenizer's files (JSON by content, without the library's version and
    the path it was saved from; others by bytes), and of every tensor its name, dtype, shape and
    first 4096 bytes. Does not bind: the rest of the weights, how tensors are spread over files,
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
        info = tensor.info
        yield json.dumps([name, info.dtype, list(info.shape)]).encode()
        with tensor.file.open("rb") as file:
            file.seek(info.start)
            yield file.read(min(_SAMPLE_BYTES, info.end - info.start))


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
