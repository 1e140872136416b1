"""The tokens of one batch grouped by adapter, so that each adapter is multiplied once."""

from dataclasses import dataclass
from typing import Self

import torch

_PADDED_ROWS = 256
"""Up to here the cost of a product is its call, and padding is free."""


@dataclass(frozen=True)
class TokenGroups:
    """A batch in group order: rows of the same adapter adjacent, rows without one at the end.

    Where the groups are about equally long they are padded to one length and multiplied by one
    batched product over the slots' own memory; else one product per group. No weight is copied.
    """

    tokens: int
    order: torch.Tensor | None
    """Token of each row in group order; None where that is the order of the batch."""
    position: torch.Tensor
    """Row in group order of each token."""
    spans: tuple[tuple[int, int, int], ...]
    """Slot, first row and end row of each group; empty when no token has an adapter."""
    padded: tuple[int, int, int] | None
    """First slot, slots and rows per slot, when the groups are padded to one length."""

    @classmethod
    def of(cls, slots: torch.Tensor) -> Self:
        """Group a batch by the slot of each token.

        `slots` is [tokens], int64; -1 means no adapter.
        """
        tokens = slots.numel()
        by_slot, counts = torch.unique(slots, return_counts=True)
        sizes = {s: n for s, n in zip(by_slot.tolist(), counts.tolist(), strict=True) if s >= 0}
        adapted = sum(sizes.values())
        # Tokens without an adapter sort first; they belong at the end.
        order = torch.argsort(slots, stable=True).roll(adapted - tokens)
        if not sizes:
            return cls(tokens, None, order, (), None)
        padded = _padded_shape(sizes, tokens)
        spans = _spans(sizes, padded)
        height = padded[1] * padded[2] if padded else adapted
        height += tokens - adapted
        row = torch.cat(
            [torch.arange(start, end) for _, start, end in spans]
            + [torch.arange(height - tokens + adapted, height)]
        )
        position = torch.empty_like(order).index_copy_(0, order, row)
        if torch.equal(position, torch.arange(height)):
            return cls(tokens, None, position, spans, padded)
        # A row of padding repeats token 0; what becomes of it is never read.
        gather = order.new_zeros(height).index_copy_(0, row, order)
        return cls(tokens, gather, position, spans, padded)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of `x` [tokens, width] in group order; `x` itself where that is its order."""
        if x.size(0) != self.tokens:
            raise ValueError(f"{x.size(0)} rows for the adapters of {self.tokens} tokens")
        return x if self.order is None else x.index_select(0, self.order)

    def restored(self, grouped: torch.Tensor) -> torch.Tensor:
        """Rows in group order back in the order of the batch, [tokens, width]."""
        return grouped if self.order is None else grouped.index_select(0, self.position)

    def multiply(self, x: torch.Tensor, stacked: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`x @ stacked[slot].T` in group order, without the rows that have no adapter.

        `x` is [rows, in] in group order, `stacked` [slots, out, in]; computed in `dtype`.
        """
        x = x.to(dtype)
        if self.padded is not None:
            first, count, longest = self.padded
            weights = stacked[first : first + count].to(dtype)
            groups = x[: count * longest].unflatten(0, (count, longest))
            return torch.bmm(groups, weights.transpose(1, 2)).flatten(0, 1)
        product = x.new_empty(self.spans[-1][2], stacked.size(1))
        for slot, start, end in self.spans:
            weight = stacked[slot].to(dtype)
            torch.mm(x[start:end], weight.t(), out=product[start:end])
        return product

    def accumulate(self, y: torch.Tensor, x: torch.Tensor, stacked: torch.Tensor) -> None:
        """`y += x @ stacked[slot].T` in group order; rows without an adapter stay as they are.

        `y` is [rows, out], `x` [rows, in] with or without the rows that have no adapter, `stacked`
        [slots, out, in]; computed in the type of `y`.
        """
        x = x.to(y.dtype)
        if self.padded is not None:
            first, count, longest = self.padded
            weights = stacked[first : first + count].to(y.dtype)
            height, shape = count * longest, (count, longest)
            groups = x[:height].unflatten(0, shape)
            y[:height].unflatten(0, shape).baddbmm_(groups, weights.transpose(1, 2))
            return
        for slot, start, end in self.spans:
            weight = stacked[slot].to(y.dtype)
            y[start:end].addmm_(x[start:end], weight.t())


def _padded_shape(sizes: dict[int, int], tokens: int) -> tuple[int, int, int] | None:
    first, count, longest = min(sizes), max(sizes) - min(sizes) + 1, max(sizes.values())
    worth = count * longest <= max(2 * tokens, _PADDED_ROWS)
    return (first, count, longest) if worth else None


def _spans(
    sizes: dict[int, int], padded: tuple[int, int, int] | None
) -> tuple[tuple[int, int, int], ...]:
    spans, end = [], 0
    for slot, size in sizes.items():
        start = (slot - padded[0]) * padded[2] if padded else end
        end = start + size
        spans.append((slot, start, end))
    return tuple(spans)
