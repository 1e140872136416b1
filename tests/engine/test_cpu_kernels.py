"""Kernels that vLLM does not use on CPUs, beside the operations that it uses."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import linear
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.kernels.linear.scaled_mm import cpu as scaled_mm_cpu
from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel
from vllm.model_executor.kernels.linear.scaled_mm.ScaledMMLinearKernel import (
    Int8ScaledMMLinearLayerConfig,
)
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.platforms import current_platform

from service.settings.section import multiplies_8_bits
from service.vllm.patches import cpu_kernels
from service.vllm.patches.cpu_kernels import FusedRMSNorm, keeps_values

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
def test_a_norm_is_what_torch_gives(width: int) -> None:
    fused, own = norms(width)
    x, residual = given(width, 3), given(width, 4)
    close(fused.forward_cpu(x.clone()), own.forward_native(x.clone()))
    wanted, added = own.forward_native(x.clone(), residual.clone())
    found, sums = fused.forward_cpu(x.clone(), residual.clone())
    close(sums, added)
    close(found, wanted)


def test_a_norm_is_the_same_in_any_batch() -> None:
    fused, _ = norms(576)
    x = given(576, 5)
    alone = torch.cat([fused.forward_cpu(row[None].clone()) for row in x])
    assert torch.equal(fused.forward_cpu(x), alone)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The relative error of all values together."""
    found, exact = found.detach().double(), exact.detach()
    return float((found - exact).norm() / exact.norm())


def test_a_norm_in_bfloat16_is_as_exact_as_what_torch_gives() -> None:
    fused, own = norms(576, torch.bfloat16)
    x, residual = given(576, 10).bfloat16(), given(576, 11).bfloat16()

    def exact(rows: torch.Tensor) -> torch.Tensor:
        square = rows.pow(2).mean(-1, keepdim=True)
        return rows * torch.rsqrt(square + own.variance_epsilon) * own.weight.double()

    alone = exact(x.double())
    found, wanted = fused.forward_cpu(x.clone()), own.forward_native(x.clone())
    assert error(found, alone) <= error(wanted, alone)
    both = exact(x.double() + residual.double())
    found, sums = fused.forward_cpu(x.clone(), residual.clone())
    wanted, added = own.forward_native(x.clone(), residual.clone())
    assert torch.equal(sums, added)
    # The kernel reads the sums as they are written, rounded.
    assert error(found, both) < 1.1 * error(wanted, both)


@pytest.mark.parametrize("case", ["strided", "float16", "odd width", "part of the width"])
def test_a_norm_that_the_kernel_does_not_take_is_left_to_torch(case: str) -> None:
    width = 40 if case == "odd width" else 64
    options = {"var_hidden_size": 32} if case == "part of the width" else {}
    dtype = torch.float16 if case == "float16" else torch.float32
    fused, own = norms(width, dtype, **options)
    x = given(width, 6).to(dtype)
    if case == "strided":
        x = given(2 * width, 6)[:, :width]
    assert torch.equal(fused.forward_cpu(x), own.forward_native(x))


class Layer(torch.nn.Module):  # type: ignore[misc]
    """What vLLM's methods need of a layer of theirs."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's choice of kernels from SGLang as `use_kernels` leaves it."""
    for module in (utils, scaled_mm_cpu):
        takes = cpu_kernels._takes_or(module.check_cpu_sgl_kernel)
        monkeypatch.setattr(module, "check_cpu_sgl_kernel", takes)
    dispatch = cpu_kernels._kernel_or(utils.dispatch_cpu_unquantized_gemm)
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", dispatch)


@pytest.mark.parametrize(
    ("dtype", "needs"),
    [(torch.bfloat16, ["avx512_bf16"]), (torch.int8, ["avx512_bf16", "avx512_vnni"])],
)
def test_kernels_are_chosen_by_the_processor_and_whole_tiles(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, needs: list[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(needs, True))
    takes = cpu_kernels._takes_or(lambda *_: False)
    assert takes(96, 64, dtype)
    assert not takes(96, 48, dtype)
    assert not takes(100, 64, dtype)
    assert not takes(96, 64, torch.float16)
    for without in needs:
        has = {each: each != without for each in needs}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert not cpu_kernels._takes_or(lambda *_: False)(96, 64, dtype)
    assert cpu_kernels._takes_or(lambda *_: True)(100, 64, dtype)


def sgls(layer: torch.nn.Module) -> bool:
    """True if this processor multiplies the layer by SGLang's kernel."""
    return "_packed" in layer.cpu_linear.__qualname__


@pytest.mark.parametrize("rows", [1, 3, 5, 33])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_in_bfloat16_is_as_exact_as_onednns(
    chosen: None, rows: int, biased: bool
) -> None:
    weight = weights(torch.bfloat16).bfloat16()
    layer, method = Layer(weight.clone()), UnquantizedLinearMethod()
    bias = torch.randn(96).bfloat16()
    layer.bias = torch.nn.Parameter(bias.clone(), requires_grad=False) if biased else None
    method.process_weights_after_loading(layer)
    assert sgls(layer) is bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    x = torch.randn(rows, 64).bfloat16()
    exact = linear(x.double(), weight.double(), bias.double() if biased else None)
    found = method.apply(layer, x, layer.bias)
    assert found.dtype == torch.bfloat16
    assert error(found, exact) < 2.5e-3
    assert torch.equal(method.apply(layer, x[:1], layer.bias), found[:1])


@pytest.mark.parametrize("rows", [1, 3, 33])
def test_a_product_in_8_bits_is_near_to_that_of_its_weights(chosen: None, rows: int) -> None:
    weight = weights(torch.float32)
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter((weight / scales).round().to(torch.int8), requires_grad=False)
    layer.weight_scale = torch.nn.Parameter(scales, requires_grad=False)
    layer.input_scale = layer.input_zero_point = layer.azp_adj = layer.bias = None
    layer.logical_widths = [96]
    kernel = CPUInt8ScaledMMLinearKernel(
        Int8ScaledMMLinearLayerConfig(
            is_static_input_scheme=False, is_channelwise=True, input_symmetric=True
        ),
        layer_param_names=["weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj"],
    )
    kernel.process_weights_after_loading(layer)
    # oneDNN's product, which other processors use, gives the type in which models are loaded.
    exact = multiplies_8_bits()
    x = torch.randn(rows, 64).to(torch.bfloat16 if exact else torch.float32)
    found = kernel.apply_weights(layer, x)
    # Without VNNI sums overflow: such models are refused there.
    assert (error(found, linear(x.double(), weight.double())) < 0.02) is exact


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's choice of products as `use_kernels` leaves it."""
    dispatch = cpu_kernels._kernel_or(utils.dispatch_cpu_unquantized_gemm)
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", dispatch)


def weights(dtype: torch.dtype) -> torch.Tensor:
    random = torch.randn(96, 64, generator=torch.Generator().manual_seed(9)) / 16
    return random.to(dtype).float()


def packed(layer: Layer) -> bool:
    """True if the layer's product reads weights of 16 bits."""
    return bool(layer.cpu_linear.__module__ == cpu_kernels.__name__)


@pytest.mark.parametrize("rows", [1, 2, 7, 33])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_product_is_what_torch_gives(halved: None, dtype: torch.dtype, rows: int) -> None:
    weight = weights(dtype)
    layer, method = Layer(weight.clone()), UnquantizedLinearMethod()
    method.process_weights_after_loading(layer)
    assert packed(layer)
    assert layer.weight.numel() == 0
    x, bias = torch.randn(rows, 64), torch.randn(96)
    close(method.apply(layer, x), linear(x, weight))
    close(method.apply(layer, x, bias), linear(x, weight, bias))


def test_an_output_layer_keeps_its_weights_for_the_embedding(halved: None) -> None:
    weight = weights(torch.bfloat16)
    layer = Layer(weight.clone())
    UnquantizedEmbeddingMethod().process_weights_after_loading(layer)
    assert packed(layer)
    assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize("case", ["float32", "bfloat16", "too large"])
def test_weights_that_float16_does_not_hold_stay_vllms(halved: None, case: str) -> None:
    weight = weights(torch.float32)
    if case == "bfloat16":
        weight = weight.bfloat16()
    if case == "too large":
        weight = weights(torch.bfloat16) + 2.0**16
    layer, method = Layer(weight.clone()), UnquantizedLinearMethod()
    method.process_weights_after_loading(layer)
    assert not packed(layer)
    x = torch.randn(3, 64).to(weight.dtype)
    wanted = linear(x, weight)
    assert (method.apply(layer, x) - wanted).norm() < 1e-3 * wanted.norm()


def test_values_are_kept_down_to_the_smallest_step_of_float16() -> None:
    small = torch.tensor([[1.0, 2.0**-16, 3 * 2.0**-24, 1e-9, 0.0]])
    assert keeps_values(small)
    assert not keeps_values(torch.tensor([[1 + 2.0**-12]]))
    assert not keeps_values(torch.tensor([[float("nan")]]))
