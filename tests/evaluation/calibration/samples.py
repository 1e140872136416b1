"""A confidence section as it stands in a manifest, and a generation adapter that has it."""

from pathlib import Path
from typing import Any

from service.models.base_model import ServedBase
from tests.adapters.samples import AdapterFolder

CONFIDENCE: dict[str, Any] = {
    "match": "exact",
    "intercept": 0.5,
    "weights": {"mean_token_logprob": 2.0},
    "risk_control": {"alpha": 0.1, "threshold": 0.4, "least_abstention": 0.1111},
    "figures": {
        "lines": 100,
        "cut": 0,
        "base_risk": 0.2,
        "auroc": 0.8,
        "auroc_mean_logprob": 0.8,
        "log_loss": 0.4,
        "log_loss_mean_logprob": 0.4,
        "ece": 0.03,
        "aurc": 0.05,
        "accuracy": {"at_50": 0.95, "at_80": 0.9, "at_100": 0.8},
    },
}
AGREEMENT: dict[str, Any] = {
    "intercept": -1.0,
    "weights": {"mean_token_logprob": 2.0, "agreement": 3.0},
    "siblings": {"samples": 4, "temperature": 1.0},
    "risk_control": {"alpha": 0.1, "threshold": 0.3, "least_abstention": 0.1111},
    "figures": CONFIDENCE["figures"]
    | {"auroc": 0.85, "aurc": 0.04, "accuracy": {"at_50": 0.96, "at_80": 0.91, "at_100": 0.8}},
}
"""The section's part `agreement`."""


def generator(folder: Path, base: ServedBase, **fields: object) -> AdapterFolder:
    """A generation adapter without golden examples, which a service serves unproven."""
    adapter = AdapterFolder(folder, base)
    for key in ("classification", "golden", "prompt"):
        del adapter.manifest[key]
    adapter.manifest |= {"name": folder.name, "task": "generation", **fields}
    adapter.write_plain()
    return adapter.seal()
