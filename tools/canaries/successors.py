"""Successors of the committed adapters: the same with one thing changed, packed as version 1.1.0.

No successor has golden examples or a fingerprint: a bad one would be refused before its release.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from service.adapters.manifest import MANIFEST_FILE
from service.adapters.pack import pack
from service.model.base_model import ServedBase
from service.plain_yaml import PlainLoader

ADAPTERS = Path("deploy/local/adapters")
WEIGHTS = "adapter_model.safetensors"
_FILLED = ("schema", "base_model", "files", "fingerprint", "confidence", "golden")

Weights = dict[str, torch.Tensor]
Draft = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that a successor has changed; `good` if it does no harm."""

    adapter: str
    text: str
    good: bool = False
    weights: Callable[[Weights], Weights] | None = None
    draft: Callable[[Draft], None] | None = None


def write(base: ServedBase, kind: Kind | None, adapter: str, version: str, folder: Path) -> str:
    """Write a version of a committed adapter, the present one without a kind; its digest."""
    source = ADAPTERS / adapter
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("adapter_config.json", WEIGHTS):
        shutil.copy(source / file, folder / file)
    draft: Draft = yaml.load((source / MANIFEST_FILE).read_text(encoding="utf-8"), PlainLoader)
    for name in _FILLED:
        draft.pop(name, None)
    draft |= {"version": version}
    if kind is not None and kind.weights is not None:
        save_file(kind.weights(read_weights(adapter)), folder / WEIGHTS)
    if kind is not None and kind.draft is not None:
        kind.draft(draft)
    return pack(folder, base, draft, overwrite=True).digest


def read_weights(adapter: str) -> Weights:
    """The weights of a committed adapter."""
    weights: Weights = load_file(ADAPTERS / adapter / WEIGHTS)
    return weights


def _noised(strength: float) -> Callable[[Weights], Weights]:
    """Add noise to each matrix, `strength` times its own standard deviation."""

    def change(weights: Weights) -> Weights:
        draws = torch.Generator().manual_seed(1)

        def noisy(each: torch.Tensor) -> torch.Tensor:
            return each + strength * each.std() * torch.randn(each.shape, generator=draws)

        return {name: noisy(each.float()).to(each.dtype) for name, each in weights.items()}

    return change


def _scaled(share: float) -> Callable[[Weights], Weights]:
    """Multiply what the adapter adds to the base."""

    def change(weights: Weights) -> Weights:
        return {
            name: each * share if ".lora_B." in name else each for name, each in weights.items()
        }

    return change


def _swap(draft: Draft) -> None:
    labels = draft["classification"]["labels"]
    draft["classification"]["labels"] = dict(zip(labels, reversed(labels.values()), strict=True))


def _always_one(draft: Draft) -> None:
    # The first label's probability is divided by a tiny prior.
    draft["classification"]["calibration"]["prior"] = [1e-6, 1 - 1e-6]


def _abstain(draft: Draft) -> None:
    draft["classification"]["calibration"]["conformal"]["threshold"] = 0.05


_S, _C = "sentiment", "commands"
KINDS: Mapping[str, Kind] = {
    "equal": Kind(_S, "the same weights, another digest", good=True),
    "swapped": Kind(_S, "labels swapped", draft=_swap),
    "noise-8": Kind(_S, "weights noised by 8 standard deviations", weights=_noised(8)),
    "noise-16": Kind(_S, "weights noised by 16 standard deviations", weights=_noised(16)),
    "noise-32": Kind(_S, "weights noised by 32 standard deviations", weights=_noised(32)),
    "untrained": Kind(_S, "a tenth of what the training added", weights=_scaled(0.1)),
    "one-label": Kind(_S, "always one label", draft=_always_one),
    "abstaining": Kind(_S, "no label below a probability of 0.95", draft=_abstain),
    "equal-commands": Kind(_C, "the same weights, another digest", good=True),
    "broken-json": Kind(_C, "weights noised by 32 standard deviations", weights=_noised(32)),
    "untrained-commands": Kind(_C, "a tenth of what the training added", weights=_scaled(0.1)),
}
"""Kinds by name, each with one change that the committed files allow without training."""
