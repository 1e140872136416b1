"""vLLM's kernel for weights of 4 bits on CPUs needs AVX-512; torch's has AVX2 as well.

It is behind `engine.quantization: cpu_int4`, with which steps of few tokens read 4 bits a weight.
A step of one token takes about as long as the weights take to read, of which 4 bits are an eighth
of float32's. With many tokens the arithmetic counts, and vLLM's own product is faster. So each
linear layer has its weights twice: packed, for steps of at most `FEW_TOKENS`, and as the same
rounded values in the model's type. The output layer, where errors reach the probabilities directly,
has 8 bits in place of 4 for few tokens and its own for many; the embedding keeps its own.

Weights are rounded while they are loaded, in groups of 32 with a step and a smallest value each
(GGUF's type Q4_1). Those that come from such a file change by what bfloat16 rounds.
"""

from collections.abc import Callable
from typing import Any

import torch
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
)

from service.vllm.environment import CPU_INT4

USES = (
    "calls vllm.model_executor.layers.quantization:register_quantization_config",
    "extends vllm.model_executor.layers.linear:"
    "UnquantizedLinearMethod.process_weights_after_loading",
    "extends vllm.model_executor.layers.vocab_parallel_embedding:"
    "UnquantizedEmbeddingMethod.process_weights_after_loading",
)

FEW_TOKENS = 16
"""Rows up to which the packed weights are faster; 32 rows took 1.4 times as long as float32's."""

_GROUP = 32
_LEVELS = 15
_MIDDLE = 8
"""The kernel multiplies a number less this by its step."""
_ROWS_MULTIPLE = 16
"""Of the numbers of output features that the kernel takes."""

Kernel = Callable[[torch.Tensor], torch.Tensor]
Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class Int4Linear(UnquantizedLinearMethod):  # type: ignore[misc]
    """A linear layer with weights of 4 bits for few tokens; others stay as vLLM has them."""

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Round the layer's weights, and have it choose a product for each step."""
        weight = layer.weight.data
        fits = (
            weight.ndim == 2
            and weight.shape[1] % _GROUP == 0
            and weight.shape[0] % _ROWS_MULTIPLE == 0
            and not getattr(layer, "_cpu_skip_gemm_dispatch", False)
        )
        packed = _rounded(weight) if fits else None
        super().process_weights_after_loading(layer)
        if packed is not None:
            layer.cpu_linear = _for_few(_four_bits(*packed), layer.cpu_linear)


class Int8Head(UnquantizedEmbeddingMethod):  # type: ignore[misc]
    """An output layer with weights of 8 bits for few tokens, a step for each word."""

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Have the layer choose a product for each step; its own weights stay."""
        packed = _eight_bits(layer.weight.data)
        super().process_weights_after_loading(layer)
        layer.cpu_linear = _for_few(packed, layer.cpu_linear)


class Int4Config(QuantizationConfig):  # type: ignore[misc]
    """vLLM's description of a quantization."""

    def get_name(self) -> str:
        """The name in `engine.quantization`."""
        return CPU_INT4

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """The model's types; the packed weights are multiplied in bfloat16."""
        return [torch.float32, torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        """Of GPUs, which this does not concern."""
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        """None: any model can be rounded."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Int4Config":
        """The one description; a model's own quantization is refused by vLLM."""
        return cls()

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        """How a layer keeps its weights; None is vLLM's own way."""
        if isinstance(layer, LinearBase):
            return Int4Linear()
        return Int8Head() if isinstance(layer, ParallelLMHead) else None


def register() -> None:
    """Make the name known to vLLM in this process."""
    register_quantization_config(CPU_INT4)(Int4Config)


def _rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round weights (outputs x inputs) in place; returns the kernel's numbers and steps."""
    rows, columns = weight.shape
    groups = weight.float().view(rows, columns // _GROUP, _GROUP)
    least = groups.amin(-1, keepdim=True)
    step = (groups.amax(-1, keepdim=True) - least) / _LEVELS
    numbers = ((groups - least) / step).nan_to_num_().round_()
    # As the kernel has them: both in bfloat16, the second at the middle of the range.
    steps = torch.cat((step, least + _MIDDLE * step), -1).bfloat16()
    values = (numbers - _MIDDLE) * steps[..., :1] + steps[..., 1:]
    weight.copy_(values.view(rows, columns))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
        numbers.view(rows, columns).to(torch.int32), 2
    )
    return packed, steps.transpose(0, 1).contiguous()


def _four_bits(packed: torch.Tensor, steps: torch.Tensor) -> Kernel:
    return lambda rows: torch.ops.aten._weight_int4pack_mm_for_cpu(rows, packed, _GROUP, steps)


def _eight_bits(weight: torch.Tensor) -> Kernel:
    steps = weight.float().abs().amax(1) / 127
    numbers = (weight.float() / steps[:, None]).nan_to_num_().round_().to(torch.int8)
    rounded = steps.bfloat16()
    return lambda rows: torch.ops.aten._weight_int8pack_mm(rows, numbers, rounded)


def _for_few(few: Kernel, many: Product) -> Product:
    def product(
        rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if rows.ndim != 2 or rows.shape[0] > FEW_TOKENS:
            return many(rows, weight, bias)
        found = few(rows.bfloat16()).to(rows.dtype)
        # vLLM keeps the bias of some layers in float32.
        return found if bias is None else found + bias.to(rows.dtype)

    return product
