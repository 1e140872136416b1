"""The memory that the slices of a layer share."""

import torch

from service.vllm.patches.adapter_operators import PackedLayers


def layer(*outs: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Weights of two slots, rank 3, four inputs, and a slice for each of `outs`."""
    down = tuple(torch.randn(2, 1, 3, 4) for _ in outs)
    return down, tuple(torch.randn(2, 1, out, 3) for out in outs)


def test_the_second_matrices_lie_on_the_diagonal() -> None:
    down, up = layer(5, 2)

    packed = PackedLayers().of(down, up)

    assert torch.equal(packed.down, torch.cat([d[:, 0].transpose(1, 2) for d in down], dim=2))
    for slot in range(2):
        diagonal = torch.block_diag(*(u[slot, 0].t() for u in up))
        assert torch.equal(packed.up[slot], diagonal)


def test_packing_keeps_the_values_and_takes_the_memory_once() -> None:
    down, up = layer(5, 2)
    before = [weights.clone() for weights in (*down, *up)]
    layers = PackedLayers()

    packed = layers.of(down, up)

    assert layers.of(down, up) is packed
    assert all(torch.equal(w, b) for w, b in zip((*down, *up), before, strict=True))
    shared = {packed.down.untyped_storage().data_ptr(), packed.up.untyped_storage().data_ptr()}
    assert {w.untyped_storage().data_ptr() for w in (*down, *up)} == shared


def test_layers_are_kept_apart() -> None:
    layers = PackedLayers()

    assert layers.of(*layer(5)) is not layers.of(*layer(5))
