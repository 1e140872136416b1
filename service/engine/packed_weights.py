"""The adapters of a layer made of several projections (q, k, v), multiplied as one."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch


class PackedWeights:
    """Both matrices of every slice of a layer, each kind in one block of memory.

    `down` is [slots, ranks, in], the slices' first matrices stacked; `up` is [slots, out, ranks],
    their second ones on its diagonal, so `x @ down.T @ up.T` is every slice at once. The tensors
    they come from become views of them: an adapter that is loaded later is written into both.
    """

    def __init__(self, down: Sequence[torch.Tensor], up: Sequence[torch.Tensor]) -> None:
        """Take over the tensors: `down` [slots, 1, rank, in] each, `up` [slots, 1, out, rank]."""
        self._first = down[0], up[0]
        slots, _, _, width = down[0].shape
        ranks = [0, *accumulate(weights.size(2) for weights in down)]
        outs = [0, *accumulate(weights.size(2) for weights in up)]
        self.down = down[0].new_zeros(slots, ranks[-1], width)
        self.up = up[0].new_zeros(slots, outs[-1], ranks[-1])
        for weights, (start, end) in zip(down, pairwise(ranks), strict=True):
            _move(weights, self.down[:, None, start:end])
        for weights, (left, right), (top, bottom) in zip(
            up, pairwise(ranks), pairwise(outs), strict=True
        ):
            _move(weights, self.up[:, None, top:bottom, left:right])

    def holds(self, down: torch.Tensor, up: torch.Tensor) -> bool:
        """Whether a layer's first tensors are still views of this memory."""
        return (
            self._first[0] is down
            and self._first[1] is up
            and down.data_ptr() == self.down.data_ptr()
            and up.data_ptr() == self.up.data_ptr()
        )


class PackedLayers:
    """The packed weights of each layer, packed when it is first used."""

    def __init__(self) -> None:
        self._layers: dict[int, PackedWeights] = {}

    def of(
        self, down: Sequence[torch.Tensor], up: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`down` and `up` of a layer; a layer of one slice is used where it lies."""
        if len(down) == 1:
            return down[0][:, 0], up[0][:, 0]
        packed = self._layers.get(id(down[0]))
        if packed is None or not packed.holds(down[0], up[0]):
            packed = self._layers[id(down[0])] = PackedWeights(down, up)
        return packed.down, packed.up


def _move(tensor: torch.Tensor, place: torch.Tensor) -> None:
    place.copy_(tensor)
    tensor.set_(place)
