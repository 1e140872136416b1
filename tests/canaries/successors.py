"""Successors of the committed adapters: the same with one thing changed, packed as version 1.1.0.

No successor has a fingerprint, and most have no golden examples: a bad one would be refused before
its release.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from service.adapters.manifest import MANIFEST_FILE
from service.common.plain_yaml import PlainLoader
from service.models.base_model import ServedBase
from training.packing import pack

ADAPTERS = Path("deploy/local/adapters")
WEIGHTS = "adapter_model.safetensors"
GOLDEN = "golden.jsonl"
_FILLED = ("schema", "base_model", "files", "fingerprint", "confidence")

Weights = dict[str, torch.Tensor]
Draft = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that a successor has changed; `good` if it does no harm.

    `present` changes the version that it follows, and `later` its files once it serves, for which
    it keeps its golden examples. So many pairs of a `shadow` come before its steps.
    """

    adapter: str
    text: str
    good: bool = False
    weights: Callable[[Weights], Weights] | None = None
    draft: Callable[[Draft], None] | None = None
    present: Callable[[Draft], None] | None = None
    later: Callable[[Path], None] | None = None
    shadow: int = 0

    @property
    def before(self) -> "Kind":
        """The version that it follows."""
        return Kind(self.adapter, f"what {self.text} follows", draft=self.present)


def write(base: ServedBase, kind: Kind, version: str, folder: Path) -> str:
    """Write a version of a committed adapter; its digest."""
    source = ADAPTERS / kind.adapter
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("adapter_config.json", WEIGHTS):
        shutil.copy(source / file, folder / file)
    draft: Draft = yaml.load((source / MANIFEST_FILE).read_text(encoding="utf-8"), PlainLoader)
    for name in _FILLED:
        draft.pop(name, None)
    if kind.later is None:
        draft.pop("golden")
    else:
        shutil.copy(source / GOLDEN, folder / GOLDEN)
    draft |= {"version": version}
    if kind.weights is not None:
        save_file(kind.weights(read_weights(kind.adapter)), folder / WEIGHTS)
    if kind.draft is not None:
        kind.draft(draft)
    return pack(folder, base, draft, overwrite=True).digest


def read_weights(adapter: str) -> Weights:
    """The weights of a committed adapter."""
    weights: Weights = load_file(ADAPTERS / adapter / WEIGHTS)
    return weights
