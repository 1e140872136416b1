"""Verifies adapter_model.safetensors against the adapter's configuration and its base.

A LoRA adds B @ A to a module's weight: A is (rank, in), B is (out, rank)
(Hu et al. 2021, arXiv:2106.09685). On the input embedding A is (rank, vocabulary) and B is
(hidden, rank).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from service.adapters.folder import check_digests, check_listing
from service.adapters.formats import AdapterRefused, PatternRefused
from service.adapters.golden import check_golden
from service.adapters.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.peft_config import PeftConfig, matches_name, read_peft_config
from service.models.base_model import EMBEDDING, ServedBase
from service.models.tensors import (
    ADAPTER_HEADER_LIMIT,
    MalformedSafetensors,
    TensorInfo,
    read_header,
)
from service.sources.reference import Refuse

# dtype -> (unsigned integer of the same size, its exponent's bits: all set means inf or NaN).
_FLOATS: Mapping[str, tuple[str, int]] = {
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F32": ("<u4", 0x7F800000),
}
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\."
    r"(?:lora_(?P<linear>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))"
)
_CHUNK_BYTES = 4 << 20


def check_weights(adapter: str, folder: Path, config: PeftConfig, base: ServedBase) -> int:
    """Check names, pairs, ranks, shapes and values of every tensor, and return the largest rank.

    Raises AdapterRefused.
    """
    path, refuse = folder / WEIGHTS_FILE, partial(AdapterRefused, adapter, WEIGHTS_FILE)
    try:
        header = read_header(path, max_header_bytes=ADAPTER_HEADER_LIMIT, dtypes=_FLOATS)
    except MalformedSafetensors as error:
        raise refuse(error.reason, error.expected, error.found) from error
    modules = _group(refuse, header, base)
    try:
        _check_targets(refuse, modules.keys(), config, base)
        ranks = {module: config.rank_of(module) for module in modules}
    except PatternRefused as error:
        raise AdapterRefused(
            adapter, CONFIG_FILE, "a pattern cannot be used", "a usable pattern", error
        ) from error
    for module, pair in modules.items():
        _check_shapes(refuse, module, pair, ranks[module], base.modules[module])
    _check_values(refuse, path, header)
    return max(ranks.values())


def _group(
    refuse: Refuse, header: Mapping[str, TensorInfo], base: ServedBase
) -> dict[str, dict[str, TensorInfo]]:
    """Tensors by module and side, every module in the base and with both sides."""
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, info in header.items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            expected = "base_model.model.MODULE.lora_A.weight or lora_B.weight"
            raise refuse(f"tensor {name} is not served", expected, _kind(name))
        module = found["module"]
        if module not in base.modules:
            raise refuse(f"tensor {name}", "a module of the base", module)
        if _is_embedding(module) != (found["embedding"] is not None):
            raise refuse(
                f"tensor {name}",
                f"lora_embedding_A and _B on {EMBEDDING}, lora_A and lora_B on other modules",
                name.removeprefix(f"base_model.model.{module}."),
            )
        modules.setdefault(module, {})[found["linear"] or found["embedding"]] = info
    for module, pair in modules.items():
        if len(pair) != 2:
            raise refuse(f"module {module} is incomplete", "A and B", *pair)
    return modules


def _is_embedding(module: str) -> bool:
    return module.rpartition(".")[2] == EMBEDDING


def _kind(name: str) -> str:
    if "lora_magnitude_vector" in name:
        return "a DoRA magnitude"
    if name.endswith(".bias"):
        return "a bias"
    if ".base_layer." in name:
        return "a copy of the base's weights, which vLLM skips silently"
    return "another tensor"


def _check_targets(
    refuse: Refuse, present: Collection[str], config: PeftConfig, base: ServedBase
) -> None:
    """The tensors must be exactly those the configuration asks for."""
    for name in config.named_targets:
        if not any(matches_name(module, name) for module in base.modules):
            raise refuse(f"target_modules of {CONFIG_FILE}", "modules of the base", name)
    for module in base.modules:
        if config.targets(module) != (module in present):
            wanted, found = ("A and B", "none") if module not in present else ("none", "A and B")
            rule = f"module {module} disagrees with target_modules of {CONFIG_FILE}"
            raise refuse(rule, wanted, found)
    if not present:
        raise refuse("holds no tensor", "A and B", "none")


def _check_shapes(
    refuse: Refuse, module: str, pair: Mapping[str, TensorInfo], rank: int, base: tuple[int, int]
) -> None:
    outputs, inputs = reversed(base) if _is_embedding(module) else base
    for side, expected in (("A", (rank, inputs)), ("B", (outputs, rank))):
        if pair[side].shape != expected:
            raise refuse(
                f"shape of {module} lora_{side}",
                f"{list(expected)} (rank {rank} on a base of {list(base)})",
                list(pair[side].shape),
            )


def _check_values(refuse: Refuse, path: Path, header: Mapping[str, TensorInfo]) -> None:
    changes_something = False
    for name, info in header.items():
        unsigned, exponent = _FLOATS[info.dtype]
        for position, words in _chunks(path, info, unsigned):
            broken = np.flatnonzero((words & exponent) == exponent)
            if broken.size:
                found = f"inf or NaN at element {position + int(broken[0])}"
                raise refuse(f"values of {name} ({info.dtype})", "finite numbers", found)
            # The shift drops the sign bit: -0.0 is zero too.
            changes_something |= name.endswith(("_B.weight", "_B")) and bool((words << 1).any())
    if not changes_something:
        raise refuse("changes nothing", "a trained B", "only zeros in every B")


def _chunks(
    path: Path, info: TensorInfo, unsigned: str
) -> Iterator[tuple[int, "np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]"]]:
    width = np.dtype(unsigned).itemsize
    with path.open("rb") as file:
        file.seek(info.start)
        for start in range(info.start, info.end, _CHUNK_BYTES):
            raw = file.read(min(_CHUNK_BYTES, info.end - start))
            yield (start - info.start) // width, np.frombuffer(raw, dtype=unsigned)


@dataclass(frozen=True, slots=True)
class VerifiedAdapter:
    """A folder that passed every check that needs no engine, and its largest rank."""

    folder: Path
    manifest: Manifest
    rank: int

    @property
    def digest(self) -> str:
        """The manifest's digest, which covers every file in the folder through the file list."""
        return self.manifest.digest


def verify(folder: Path, base: ServedBase) -> VerifiedAdapter:
    """Verify an adapter's folder against its manifest and the base it will be served on.

    Reads every byte once for its digest and the weights once more for their values; loads
    nothing into a framework. Raises AdapterRefused at the first rule that is broken, in the
    order: manifest, listing, base, digests, configuration, weights, golden file.
    """
    return verify_manifest(folder, load_manifest(folder), base)


def verify_manifest(folder: Path, manifest: Manifest, base: ServedBase) -> VerifiedAdapter:
    """Verify a folder against a manifest that may be elsewhere; otherwise like verify."""
    adapter = manifest.name
    check_listing(adapter, folder, manifest.files)
    _check_base(manifest, base)
    check_digests(adapter, folder, manifest.files)
    config = read_peft_config(adapter, folder, base.max_rank)
    rank = check_weights(adapter, folder, config, base)
    check_golden(folder, manifest)
    return VerifiedAdapter(folder, manifest, rank)


def require_provable(manifest: Manifest) -> None:
    """Raise AdapterRefused for an adapter that could not be proven."""
    for field, held in (("golden", manifest.golden), ("fingerprint", manifest.fingerprint)):
        if held is None:
            expected = "it, because require_proof is set (see `llm-service adapters pack --config`)"
            raise AdapterRefused(
                manifest.name, MANIFEST_FILE, f"field {field}", expected, "nothing"
            )


def _check_base(manifest: Manifest, base: ServedBase) -> None:
    wanted = manifest.base_model
    for field, expected, found in (
        ("name", base.name, wanted.name),
        ("digest", base.digest, wanted.digest),
    ):
        if expected != found:
            rule = f"base_model.{field} is not the served base model's"
            raise AdapterRefused(manifest.name, MANIFEST_FILE, rule, expected, found)
