"""Norms by vLLM's kernel for CPUs, beside its own eight operations of torch."""

from collections.abc import Iterator

import pytest
import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform

from service.vllm.patches.fused_norms import FusedRMSNorm

ROWS = 5


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """A configuration without a compiler, in which vLLM chooses its custom operators."""
    current_platform.import_kernels()
    with set_current_vllm_config(VllmConfig()):
        yield


def norms(
    width: int, dtype: torch.dtype = torch.float32, **options: int
) -> tuple[RMSNorm, RMSNorm]:
    """The fused norm and vLLM's own, with the same random weights."""
    both = FusedRMSNorm(width, **options), RMSNorm(width, **options)
    weight = torch.randn(width, generator=torch.Generator().manual_seed(2)).to(dtype)
    for norm in both:
        norm.weight.data = weight
    return both


def given(width: int, seed: int) -> torch.Tensor:
    return torch.randn(ROWS, width, generator=torch.Generator().manual_seed(seed))


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [16, 64, 576, 2048])
def test_kernel_gives_what_torch_gives(width: int) -> None:
    fused, own = norms(width)
    x, residual = given(width, 3), given(width, 4)
    close(fused.forward_cpu(x.clone()), own.forward_native(x.clone()))
    wanted, added = own.forward_native(x.clone(), residual.clone())
    found, sums = fused.forward_cpu(x.clone(), residual.clone())
    close(sums, added)
    close(found, wanted)


def test_a_row_is_the_same_in_any_batch() -> None:
    fused, _ = norms(576)
    x = given(576, 5)
    alone = torch.cat([fused.forward_cpu(row[None].clone()) for row in x])
    assert torch.equal(fused.forward_cpu(x), alone)


@pytest.mark.parametrize("case", ["strided", "bfloat16", "odd width", "part of the width"])
def test_what_the_kernel_does_not_take_is_left_to_torch(case: str) -> None:
    width = 40 if case == "odd width" else 64
    options = {"var_hidden_size": 32} if case == "part of the width" else {}
    dtype = torch.bfloat16 if case == "bfloat16" else torch.float32
    fused, own = norms(width, dtype, **options)
    x = given(width, 6).to(dtype)
    if case == "strided":
        x = given(2 * width, 6)[:, :width]
    assert torch.equal(fused.forward_cpu(x), own.forward_native(x))
