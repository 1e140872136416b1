"""Versions of adapters: one that is served, and one that is not and why."""

from dataclasses import dataclass

from service.adapters.manifest import Manifest
from service.adapters.proof import Proof
from service.classification.adapter_classifier import AdapterClassifier
from service.engine.protocol import Adapter


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """An adapter that was verified, loaded and, if it has golden examples, proven.

    `classifier` is there for a classification adapter; `load_seconds` is the time that
    fetching, verifying and loading took, waits for other adapters left out.
    """

    adapter: Adapter
    manifest: Manifest
    classifier: AdapterClassifier | None
    proof: Proof | None
    load_seconds: float

    @property
    def names(self) -> tuple[str, str]:
        """The names it answers to."""
        return self.adapter.name, f"{self.adapter.name}@{self.manifest.version}"


@dataclass(frozen=True, slots=True)
class QuarantinedAdapter:
    """An adapter that failed. `reason` is for the operator and may name paths; `shown` may not."""

    name: str
    reason: str
    shown: str
