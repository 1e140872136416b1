"""vLLM's adapter operators for its CPU build, with one product per adapter.

vLLM's own gather a copy of the adapter for each token, and use the last slot's weights for a token
without one (slot -1). docs/decisions/0008-cpu-adapter-operators.md says when to remove these.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from service.vllm.cpu.packed_weights import PackedLayers
from service.vllm.cpu.token_groups import TokenGroups
from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM copies an adapter for each token on CPUs; a token without one gets the last slot's",
    upstream="vLLM pull requests 48421 and 49656",
)
USES = ("extends vllm.lora.punica_wrapper.punica_cpu:PunicaWrapperCPU",)
"""What of vLLM this module stands on (docs/vllm.md)."""


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
        """Take the adapters of the next batch."""
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
