"""vLLM's CPU build copies an adapter per token, and gives tokens without one the last slot's.

These operators compute one matrix product per adapter. docs/decisions/0017-batch-invariance.md
says when to remove them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

UPSTREAM = "vLLM pull requests 48421 and 49656"


_PADDED_ROWS = 256
"""Rows up to which a product costs only its call, so that padding is free."""


@dataclass(frozen=True)
class TokenGroups:
    """A batch grouped by adapter; tokens without an adapter are left out.

    Rows of an adapter are adjacent. Groups of similar length are padded to the same length and
    multiplied in one batched product, directly on the slots' memory; otherwise each group has a
    product of its own. No weight is copied.
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


class PackedWeights:
    """The LoRA matrices of all slices of a layer, A and B each in one block of memory.

    `down` is [slots, in, ranks], with the slices' first matrices side by side. `up` is [slots,
    ranks, out], with their second matrices on the diagonal. So `x @ down[slot] @ up[slot]` gives
    all slices at once. vLLM's own tensors become views of these, so loading an adapter later writes
    into them.
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


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc]
    """PunicaWrapperCPU that groups the tokens once per batch and leaves base tokens untouched.

    The methods keep vLLM's signatures and meaning. They read Python values of the batch, so the
    model must run eagerly, as vLLM's CPU platform does whenever adapters are on.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tokens = TokenGroups.of(torch.empty(0, dtype=torch.long))
        self._samples: TokenGroups | None = None
        self._prompt: torch.Tensor | None = None
        self._layers = PackedLayers()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._tokens = TokenGroups.of(self.token_lora_indices)
        self._samples = None

    @contextmanager
    def logits_of(self, token: int) -> Iterator[None]:
        """Within the block, compute logits for the request that has this token of the batch."""
        self._prompt = self.token_lora_indices[token : token + 1]
        try:
            yield
        finally:
            self._prompt = None

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """`y[:, slice i] += scale * x @ lora_a_stacked[i] @ lora_b_stacked[i]`."""
        if buffer is not None:
            self.add_shrink(buffer, x, lora_a_stacked, scale)
            self.add_expand(y, buffer, lora_b_stacked, output_slices)
        elif self._tokens.rows:
            packed = self._layers.of(lora_a_stacked, lora_b_stacked)
            _add_products(self._tokens, _rows(y), _rows(x), packed.down, packed.up, scale)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """`y += scale * x @ lora_a_stacked @ lora_b_stacked`, by the adapters of the samples."""
        if self._prompt is not None:
            groups = TokenGroups.of(self._prompt.expand(_rows(x).size(0)))
        else:
            groups = self._samples = self._samples or TokenGroups.of(self.sampler_indices)
        if groups.rows:
            # Model and adapter may pad the vocabulary differently.
            width = min(y.size(-1), lora_b_stacked.size(2))
            down, up = _factors(lora_a_stacked), _factors(lora_b_stacked[:, :, :width])
            _add_products(groups, _rows(y)[:, :width], _rows(x), down, up, scale)

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """`y += x @ lora_b_stacked`; `=` unless `add_inputs`."""
        width = min(y.size(-1), lora_b_stacked.size(2))
        self.add_expand(y, (x,), (lora_b_stacked[:, :, :width],), (width,), 0, add_inputs)

    def add_shrink(
        self,
        y: tuple[torch.Tensor, ...] | torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        scale: float,
        **kwargs: Any,
    ) -> None:
        """`y[i] = scale * x @ lora_a_stacked[i]`, zero for tokens without an adapter."""
        groups = self._tokens
        if not groups.rows:
            return
        grouped = groups.gather(_rows(x))
        for buffer, weights in zip(y, lora_a_stacked, strict=True):
            rows = _rows(buffer)[:, : weights.size(2)]
            product = groups.multiply(grouped, _factors(weights), rows.dtype)
            torch.mul(groups.restored(product), scale, out=rows)

    def add_expand(
        self,
        y: torch.Tensor,
        x: tuple[torch.Tensor, ...] | torch.Tensor,
        lora_b_stacked: tuple[torch.Tensor, ...],
        output_slices: tuple[int, ...],
        offset_start: int = 0,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """`y[:, slice i] += x[i] @ lora_b_stacked[i]`; `=` unless `add_inputs`."""
        groups = self._tokens
        if not groups.rows:
            return
        out = _rows(y)[:, offset_start : offset_start + sum(output_slices)]
        if not add_inputs:
            out.zero_()
        parts = out.split(output_slices, dim=1)
        for part, inputs, weights in zip(parts, x, lora_b_stacked, strict=True):
            product = groups.multiply(groups.gather(inputs), _factors(weights), part.dtype)
            part.add_(groups.restored(product))


def _add_products(
    groups: TokenGroups,
    y: torch.Tensor,
    x: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    scale: float,
) -> None:
    """`y += scale * x @ down[slot] @ up[slot]`, rounded to the type of `y` in between."""
    low = groups.multiply(groups.gather(x), down, y.dtype)
    product = groups.multiply(low if scale == 1.0 else low * scale, up, y.dtype)
    y.add_(groups.restored(product))


def _factors(stacked: torch.Tensor) -> torch.Tensor:
    """[slots, in, out] of weights that vLLM keeps as [slots, 1, out, in]."""
    return stacked[:, 0].transpose(1, 2)


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1, tensor.size(-1))
