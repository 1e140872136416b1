"""The adapters of a layer laid out for their products, its slices (q, k, v) as one."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch


class PackedWeights:
    """Both matrices of every slice of a layer, each kind in one block of memory.

    `down` is [slots, in, ranks], the slices' first matrices side by side; `up` is [slots, ranks,
    out], their second ones on its diagonal: `x @ down[slot] @ up[slot]` is every slice at once. The
    tensors they come from become views of them, so an adapter loaded later is written into both.
    """

    def __init__(self, down: Sequence[torch.Tensor], up: Sequence[torch.Tensor]) -> None:
        """Take over the tensors: `down` [slots, 1, rank, in] each, `up` [slots, 1, out, rank]."""
        self._first = down[0], up[0]
        slots, _, _, width = down[0].shape
        ranks = [0, *accumulate(weights.size(2) for weights in down)]
        outs = [0, *accumulate(weights.size(2) for weights in up)]
        # Both are laid out as the products read them fastest.
        self.down = down[0].new_zeros(slots, ranks[-1], width).transpose(1, 2)
        self.up = up[0].new_zeros(slots, ranks[-1], outs[-1])
        for a, b, rank, out in zip(down, up, pairwise(ranks), pairwise(outs), strict=True):
            _move(a, self.down[:, :, slice(*rank)].transpose(1, 2).unsqueeze(1))
            _move(b, self.up[:, slice(*rank), slice(*out)].transpose(1, 2).unsqueeze(1))

    def holds(self, down: torch.Tensor, up: torch.Tensor) -> bool:
        """True if a layer's first tensors are still views of this memory."""
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

    def of(self, down: Sequence[torch.Tensor], up: Sequence[torch.Tensor]) -> PackedWeights:
        """The packed weights of the layer that these tensors belong to."""
        packed = self._layers.get(id(down[0]))
        if packed is None or not packed.holds(down[0], up[0]):
            packed = self._layers[id(down[0])] = PackedWeights(down, up)
        return packed


def _move(tensor: torch.Tensor, place: torch.Tensor) -> None:
    place.copy_(tensor)
    tensor.set_(place)
