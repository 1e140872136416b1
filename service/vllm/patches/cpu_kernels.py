"""vLLM's layers on CPUs leave kernels unused that it and torch have, in eager mode.

- In float32 linear layers read weights of 16 bits, with FBGEMM's product of float32 and float16 in
  torch: half of the memory that oneDNN's takes, and half of the time in a step of few tokens.
  Weights that come from bfloat16, as most do, keep their values; others stay as vLLM has them.
- In bfloat16 and in 8 bits they use the kernels that vLLM has from SGLang, and keeps for AMX. With
  AVX-512's products of these types a step of few tokens takes two thirds of oneDNN's in bfloat16,
  which is as exact, and in 8 bits a third of it.
- Norms are one call each, where vLLM computes eight operations of torch on CPUs. In bfloat16 they
  round once, at the end, where torch rounds twice. vLLM's kernel for SiLU stays unused: with
  AVX2 and AVX-512 it takes over twice as long as torch's two operations, which vLLM calls.
- Attention is called as a function. Only compilers need vLLM's detour by an operator of torch.
"""

from collections.abc import Callable

import torch
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.kernels.linear.scaled_mm import cpu as products_of_8_bits
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform

USES = (
    "reads vllm.model_executor.custom_op:op_registry_oot",
    "calls vllm.model_executor.custom_op:CustomOp.register_oot",
    "extends vllm.model_executor.layers.layernorm:RMSNorm.forward_native",
    "replaces vllm.model_executor.layers.utils:check_cpu_sgl_kernel",
    "replaces vllm.model_executor.kernels.linear.scaled_mm.cpu:check_cpu_sgl_kernel",
    "replaces vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm",
    "replaces vllm.platforms.interface:Platform.opaque_attention_op",
)

_MULTIPLE = 16
"""Of the width that the kernel of norms takes."""
_HAS = torch.cpu.get_capabilities()
_TYPES = (torch.float32, torch.bfloat16) if _HAS.get("avx512_bf16") else (torch.float32,)
"""Of what it takes. vLLM's build for AVX2 cuts bfloat16 off where this one rounds."""
_ENGINES = ("fbgemm", "x86")
"""torch's engines for quantized products that are FBGEMM."""
_LOST = 2.0**-25
"""The largest change of a weight: half of float16's smallest step. Weights that come in bfloat16
change only below 2^-17."""
_ROWS_AT_ONCE = 256
"""Fit into a core's cache, in which the output layer is looked at six times as fast."""

_TILE = (16, 32)
"""Outputs and inputs of a weight that SGLang's kernels multiply at once."""

Takes = Callable[[int, int, torch.dtype], bool]
Product = Callable[[torch.Tensor, object, torch.Tensor | None], torch.Tensor]
Dispatch = Callable[[torch.nn.Module, bool], None]


def use_kernels() -> None:
    """Have vLLM make layers with these kernels in this process; a second call has no effect."""
    if RMSNorm.__name__ in op_registry_oot:
        return
    RMSNorm.register_oot(FusedRMSNorm)
    type(current_platform).opaque_attention_op = classmethod(lambda cls: False)
    for module in (utils, products_of_8_bits):
        module.check_cpu_sgl_kernel = _takes_or(module.check_cpu_sgl_kernel)
    utils.dispatch_cpu_unquantized_gemm = _kernel_or(utils.dispatch_cpu_unquantized_gemm)


def _takes_or(vllms: Takes) -> Takes:
    """True also for weights that SGLang's kernels multiply by AVX-512 on this processor."""
    has = torch.cpu.get_capabilities()
    # vLLM's builds for processors without AVX512-BF16 have none of these kernels.
    built = bool(has.get("avx512_bf16"))
    fits = {torch.bfloat16: built, torch.int8: built and bool(has.get("avx512_vnni"))}

    def takes(outputs: int, inputs: int, dtype: torch.dtype) -> bool:
        whole = outputs % _TILE[0] == inputs % _TILE[1] == 0
        return (whole and fits.get(dtype, False)) or vllms(outputs, inputs, dtype)

    return takes


class FusedRMSNorm(RMSNorm):  # type: ignore[misc]
    """vLLM's norm, by its kernel where that takes the input."""

    def forward_cpu(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Normalize rows (... x width), after adding the residual; both are overwritten then."""
        weight, epsilon = self._parameters.get("weight"), self.variance_epsilon
        takes = weight is not None and self.variance_size_override is None
        if not takes or not _fits(x, weight) or not (residual is None or _fits(residual, weight)):
            return self.forward_native(x, residual)
        if residual is None:
            found = torch.empty_like(x)
            torch.ops._C.rms_norm(found, x, weight, epsilon)
            return found
        torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
        return x, residual


def _fits(rows: torch.Tensor, weight: torch.Tensor) -> bool:
    dtype = rows.dtype
    whole = weight.size(0) % _MULTIPLE == 0 and rows.is_contiguous()
    return whole and dtype is weight.dtype and dtype in _TYPES


class HalfProduct(torch.nn.Module):  # type: ignore[misc]
    """The product of rows with a weight (outputs x inputs) that is held in float16."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, None)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply rows (... x inputs) of float32; the sums are float32 too."""
        return torch.ops.quantized.linear_dynamic_fp16(rows, self._packed)


def keeps_values(weight: torch.Tensor) -> bool:
    """True if float16 holds these values of float32."""
    parts = weight.split(_ROWS_AT_ONCE)
    return all(bool((part.half().float() - part).abs_().amax() <= _LOST) for part in parts)


def _kernel_or(vllms: Dispatch) -> Dispatch:
    def dispatch(layer: torch.nn.Module, remove_weight: bool) -> None:
        product = None if layer.weight.is_meta or layer.weight.ndim != 2 else _product(layer)
        if product is None:
            vllms(layer, remove_weight)
            return
        layer.cpu_linear = product
        if remove_weight:
            layer.weight = torch.nn.Parameter(layer.weight.new_empty(0), requires_grad=False)

    return dispatch


def _product(layer: torch.nn.Module) -> Product | None:
    """The product of a layer's weight (outputs x inputs); None for vLLM's choice."""
    weight = layer.weight.data
    if weight.dtype == torch.bfloat16 and utils.check_cpu_sgl_kernel(*weight.shape, weight.dtype):
        if getattr(layer, "bias", None) is not None:
            layer.bias.data = layer.bias.float()
        return _packed(weight)
    fbgemm = torch.backends.quantized.engine in _ENGINES
    if weight.dtype == torch.float32 and weight.numel() and fbgemm and keeps_values(weight):
        return _halved(weight)
    return None


def _packed(weight: torch.Tensor) -> Product:
    outputs = weight.size(0)
    packed = torch.ops._C.convert_weight_packed(weight)
    multiply = torch.ops._C.weight_packed_linear.default

    def product(rows: torch.Tensor, _: object, bias: torch.Tensor | None) -> torch.Tensor:
        found = rows.new_empty((*rows.shape[:-1], outputs))
        multiply(found.view(-1, outputs), rows.reshape(-1, rows.size(-1)), packed, bias, True)
        return found

    return product


def _halved(weight: torch.Tensor) -> Product:
    # Called from Python, the operator itself takes tens of microseconds to read its arguments.
    multiply = torch.jit.script(HalfProduct(weight)).forward
    return lambda rows, _, bias: multiply(rows) if bias is None else multiply(rows).add_(bias)
