"""Versions of adapters: served ones, and quarantined ones with their reason."""

from dataclasses import dataclass
from typing import Literal

from service.adapters.manifest import Manifest
from service.classification.classifier import Classifier
from service.engine.protocol import Adapter
from service.proving.proof import Proof


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """An adapter that was verified, loaded and, if its manifest allows for it, proven.

    `classifier` is set for a classification adapter; `load_seconds` is the time of fetching,
    verifying and loading, without waits for other adapters. `signed_by` names the trusted key.
    """

    adapter: Adapter
    manifest: Manifest
    classifier: Classifier | None
    proof: Proof | None
    load_seconds: float
    signed_by: str | None = None

    @property
    def unproven(self) -> str | None:
        """The part of a proof that the manifest lacks; None for a proven adapter."""
        if self.proof is None:
            return "it has no golden examples"
        return "it has no fingerprint" if self.proof.fingerprint is None else None

    @property
    def state(self) -> Literal["serving", "unproven"]:
        """The adapter's state while it is served."""
        return "serving" if self.unproven is None else "unproven"

    @property
    def names(self) -> tuple[str, str]:
        """The names under which it is served."""
        return self.adapter.name, f"{self.adapter.name}@{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class QuarantinedAdapter:
    """An adapter that failed. `reason` is for the operator and may name paths; `shown` may not."""

    name: str
    reason: str
    shown: str
