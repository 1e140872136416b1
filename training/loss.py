"""Loss: -log of the probability that the served adapter would give."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from service.classification.scorer import Branch
from training.example import Example
from training.lora import LoraModel


def batch_loss(model: LoraModel, examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
    """The sum of the examples' weighted losses, in nats, and the sum of their weights.

    A label's loss is -log P(label) of its trie: at each branch on its path, over the branch's
    alternatives alone (`LabelTrie.fold`). An answer's loss is the sum over its tokens, and its
    weight counts once per token.
    """
    states = model.hidden(*padded(examples, model.device))
    if examples[0].choices:
        return _label_loss(model, states, examples), sum(each.weight for each in examples)
    return _answer_loss(model, states, examples)


def padded(
    examples: Sequence[Example], device: torch.device, padding: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of the examples and their mask, 1 for each token: (examples, longest)."""
    length = max(len(example.token_ids) for example in examples)
    token_ids = torch.full((len(examples), length), padding, dtype=torch.long)
    mask = torch.zeros(len(examples), length, dtype=torch.long)
    for row, example in enumerate(examples):
        token_ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        mask[row, : len(example.token_ids)] = 1
    return token_ids.to(device), mask.to(device)


def _label_loss(
    model: LoraModel, states: torch.Tensor, examples: Sequence[Example]
) -> torch.Tensor:
    rows: dict[Branch, list[tuple[int, int, int, float]]] = defaultdict(list)
    for row, example in enumerate(examples):
        for choice in example.choices:
            rows[choice.branch].append((row, choice.position, choice.chosen, example.weight))
    total = states.new_zeros((), dtype=torch.float32)
    for branch, places in rows.items():
        at, position, chosen, weight = zip(*places, strict=True)
        logits = model.logits(states[list(at), list(position)])
        shares = torch.stack(
            [
                logits[:, list(alternative.token_ids)].logsumexp(dim=1)
                for alternative in branch.alternatives
            ],
            dim=1,
        ).log_softmax(dim=1)
        said = shares[torch.arange(len(chosen)), torch.tensor(chosen)]
        total = total - (said * torch.tensor(weight, device=said.device)).sum()
    return total


def _answer_loss(
    model: LoraModel, states: torch.Tensor, examples: Sequence[Example]
) -> tuple[torch.Tensor, float]:
    row, position, said = [], [], []
    for number, example in enumerate(examples):
        for at in range(example.answer_at, len(example.token_ids)):
            row.append(number)
            position.append(at - 1)
            said.append(example.token_ids[at])
    logits = model.logits(states[row, position])
    wanted = torch.tensor(said, device=logits.device)
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"), float(len(said))
