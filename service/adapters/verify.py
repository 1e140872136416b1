"""Verification of an adapter's folder before the engine may read it."""

from dataclasses import dataclass
from pathlib import Path

from service.adapters.folder import check_digests, check_listing
from service.adapters.golden import check_golden
from service.adapters.manifest import MANIFEST_FILE, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.peft_config import read_peft_config
from service.adapters.refusal import AdapterRefused
from service.adapters.weights import WeightsSummary, check_weights
from service.models.base_model import ServedBase


@dataclass(frozen=True, slots=True)
class VerifiedAdapter:
    """A folder that passed every check that needs no engine."""

    folder: Path
    manifest: Manifest
    weights: WeightsSummary

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
    weights = check_weights(adapter, folder, config, base)
    check_golden(folder, manifest)
    return VerifiedAdapter(folder, manifest, weights)


def require_provable(manifest: Manifest) -> None:
    """Raise AdapterRefused for an adapter that could not be proven."""
    for field, held in (("golden", manifest.golden), ("fingerprint", manifest.fingerprint)):
        if held is None:
            raise AdapterRefused(
                manifest.name,
                MANIFEST_FILE,
                f"field {field}",
                "it, because require_proof is set (see `llm-service adapters pack --config`)",
                "nothing",
            )


def _check_base(manifest: Manifest, base: ServedBase) -> None:
    wanted = manifest.base_model
    for field, expected, found in (
        ("name", base.name, wanted.name),
        ("digest", base.digest, wanted.digest),
    ):
        if expected != found:
            raise AdapterRefused(
                manifest.name,
                MANIFEST_FILE,
                f"base_model.{field} is not the served base model's",
                expected,
                found,
            )
