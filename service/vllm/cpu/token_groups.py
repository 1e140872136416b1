"""The tokens of one batch grouped by adapter, so that each adapter is multiplied once."""

from dataclasses import dataclass

import torch

_PADDED_ROWS = 256
"""Rows up to which a product costs only its call, so that padding is free."""


@dataclass(frozen=True)
class TokenGroups:
    """A batch in group order: the rows of an adapter adjacent, no row for a token without one.

    Groups of similar length are padded to one length and multiplied by one batched product over the
    slots' own memory; otherwise each group has its own product. No weight is copied.
    """

    tokens: int
    order: torch.Tensor | None
    """Token of each row; None where the rows are the tokens as they come."""
    position: torch.Tensor
    """Row of each token; without an adapter, the row of zeros after the last group."""
    rows: int
    """Rows of all groups, padding included; 0 when no token has an adapter."""
    base: bool
    """True for each token that has no adapter."""
    spans: tuple[tuple[int, int, int], ...]
    """Slot, first row and end row of each group."""
    padded: tuple[int, int, int] | None
    """First slot, slots and rows per slot, when the groups are padded to one length."""

    @classmethod
    def of(cls, slots: torch.Tensor) -> "TokenGroups":
        """Group a batch by the slot of each token.

        `slots` is [tokens], int64; -1 means no adapter.
        """
        tokens = slots.numel()
        by_slot, counts = torch.unique(slots, return_counts=True)
        sizes = {s: n for s, n in zip(by_slot.tolist(), counts.tolist(), strict=True) if s >= 0}
        adapted = sum(sizes.values())
        base = adapted < tokens
        if not sizes:
            return cls(tokens, slots[:0], torch.zeros_like(slots), 0, base, (), None)
        padded = _padded_shape(sizes, tokens)
        spans = _spans(sizes, padded)
        rows = padded[1] * padded[2] if padded else adapted
        row = torch.cat([torch.arange(start, end) for _, start, end in spans])
        # Tokens without an adapter sort first.
        order = torch.argsort(slots, stable=True)[tokens - adapted :]
        position = torch.full_like(slots, rows).index_copy_(0, order, row)
        if torch.equal(position, torch.arange(rows)):
            return cls(tokens, None, position, rows, base, spans, padded)
        # A row of padding repeats token 0; its result is never read.
        gather = order.new_zeros(rows).index_copy_(0, row, order)
        return cls(tokens, gather, position, rows, base, spans, padded)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of `x` [tokens, width] in group order; ValueError for those of another batch."""
        if x.size(0) != self.tokens:
            raise ValueError(f"{x.size(0)} rows for the adapters of {self.tokens} tokens")
        return x if self.order is None else x.index_select(0, self.order)

    def restored(self, product: torch.Tensor) -> torch.Tensor:
        """A product [rows, width] in the order of the batch, zero for tokens without an adapter."""
        return product if self.order is None else product.index_select(0, self.position)

    def multiply(self, x: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """`x @ weights[slot]` in group order, and a row of zeros where `base` needs it.

        `x` is [rows, in] in group order, `weights` [slots, in, out]; computed in `dtype`.
        """
        x = x.to(dtype)
        product = x.new_empty(self.rows + self.base, weights.size(2))
        if self.padded is None:
            for slot, start, end in self.spans:
                torch.mm(x[start:end], weights[slot].to(dtype), out=product[start:end])
        else:
            first, count, longest = self.padded
            shape = (count, longest)
            torch.bmm(
                x[: self.rows].unflatten(0, shape),
                weights[first : first + count].to(dtype),
                out=product[: self.rows].unflatten(0, shape),
            )
        if self.base:
            product[self.rows].zero_()
        return product


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
