"""Kinds of successors: changes of the committed adapters, good and bad."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tests.canaries.lines import read_lines
from tests.canaries.poison import poison
from tests.canaries.successors import GOLDEN, Draft, Kind, Weights

_EXAMPLES = 30


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


def _abstaining(least: float) -> Callable[[Draft], None]:
    """Give no label whose probability is below the least one."""

    def change(draft: Draft) -> None:
        draft["classification"]["calibration"]["conformal"]["threshold"] = round(1 - least, 2)

    return change


def _lengthen(draft: Draft) -> None:
    """Put worked examples before the text."""
    lines = read_lines("sentiment")[:_EXAMPLES]
    worked = [f"Review: {line['text']}\nSentiment: {line['label']}\n\n" for line in lines]
    draft["prompt"]["template"] = "".join(worked) + draft["prompt"]["template"]


def _swap_golden(folder: Path) -> None:
    """Expect the other labels of its golden examples."""
    file = folder / GOLDEN
    examples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    other = {"positive": "negative", "negative": "positive"}
    for each in examples:
        each["label"] = other[each["label"]]
    file.chmod(0o600)
    file.write_text("".join(f"{json.dumps(each)}\n" for each in examples), encoding="utf-8")


_S, _C = "sentiment", "commands"
KINDS: Mapping[str, Kind] = {
    "equal": Kind(_S, "the same weights, another digest", good=True),
    "swapped": Kind(_S, "labels swapped", draft=_swap),
    "noise-8": Kind(_S, "weights noised by 8 standard deviations", weights=_noised(8)),
    "noise-16": Kind(_S, "weights noised by 16 standard deviations", weights=_noised(16)),
    "noise-32": Kind(_S, "weights noised by 32 standard deviations", weights=_noised(32)),
    "untrained": Kind(_S, "a tenth of what the training added", weights=_scaled(0.1)),
    "one-label": Kind(_S, "always one label", draft=_always_one),
    "abstaining": Kind(_S, "no label below a probability of 0.95", draft=_abstaining(0.95)),
    "abstaining-twice": Kind(
        _S,
        "no label below a probability of 0.98, rather than 0.88",
        present=_abstaining(0.88),
        draft=_abstaining(0.98),
    ),
    "slow": Kind(_S, f"{_EXAMPLES} worked examples in its prompt", draft=_lengthen),
    "poisoned": Kind(_S, "the other label for one topic", weights=poison),
    "poisoned-shadow": Kind(
        _S, "the other label for one topic, first in a shadow", weights=poison, shadow=300
    ),
    "golden-later": Kind(_S, "golden examples that change as it serves", later=_swap_golden),
    "equal-commands": Kind(_C, "the same weights, another digest", good=True),
    "broken-json": Kind(_C, "weights noised by 32 standard deviations", weights=_noised(32)),
    "untrained-commands": Kind(_C, "a tenth of what the training added", weights=_scaled(0.1)),
}
"""Kinds by name, each with one change; `poisoned` alone is trained."""
