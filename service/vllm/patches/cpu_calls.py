"""vLLM's layers on CPUs reach kernels by Python that lengthens a step of one token by a seventh.

Here they reach them by less of it, in eager mode and without tensor parallelism:

- Layers are called as functions. torch looks for hooks at each call, and vLLM sets none.
- Linear layers call their product at once, and their adapters' product after it.
- Attention looks up a batch once where vLLM does twice, and keeps its views of the cache.

The kernels and their arguments are the same, and so are the results, bit for bit.
"""

from collections.abc import Callable
from typing import Any

import torch
from vllm.forward_context import get_forward_context
from vllm.lora.layers import ColumnParallelLinearWithLoRA, RowParallelLinearWithLoRA
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers import utils
from vllm.model_executor.layers.attention.attention import Attention
from vllm.model_executor.layers.linear import ColumnParallelLinear, LinearBase, RowParallelLinear
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

from service.vllm.patches.cpu_kernels import Dispatch

USES = (
    "replaces vllm.lora.layers:ColumnParallelLinearWithLoRA.forward",
    "replaces vllm.lora.layers:RowParallelLinearWithLoRA.forward",
    "replaces vllm.model_executor.layers.attention.attention:Attention.forward",
    "replaces vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm",
    "reads vllm.model_executor.custom_op:CustomOp",
    "reads vllm.model_executor.layers.linear:ColumnParallelLinear",
    "reads vllm.model_executor.layers.linear:RowParallelLinear",
    "calls vllm.forward_context:get_forward_context",
    "reads vllm.v1.attention.backends.cpu_attn:CPUAttentionBackendImpl.forward",
)

_WRITE = torch.ops._C.cpu_attn_reshape_and_cache.default
_ATTEND = torch.ops._C.cpu_attention_with_kv_cache.default

Forward = Callable[..., Any]


def call_directly() -> None:
    """Have vLLM's layers of this process reach their kernels so; a second call has no effect."""
    if "__call__" in CustomOp.__dict__:
        return
    CustomOp.__call__ = lambda self, *inputs, **named: self._forward_method(*inputs, **named)
    for layer in (LinearBase, Attention, ColumnParallelLinearWithLoRA, RowParallelLinearWithLoRA):
        layer.__call__ = lambda self, *inputs, **named: self.forward(*inputs, **named)
    for adapted in (ColumnParallelLinearWithLoRA, RowParallelLinearWithLoRA):
        adapted.forward = _adapted_or(adapted.forward)
    Attention.forward = _attended_or(Attention.forward)
    utils.dispatch_cpu_unquantized_gemm = _plain_or(utils.dispatch_cpu_unquantized_gemm)


def _plain_or(dispatch: Dispatch) -> Dispatch:
    """Choose a layer's product as `dispatch` does, and have its `forward` be that product."""

    def dispatch_plain(layer: torch.nn.Module, remove_weight: bool) -> None:
        dispatch(layer, remove_weight)
        parallel = isinstance(layer, ColumnParallelLinear | RowParallelLinear)
        if not parallel or layer.tp_size > 1 or layer.skip_bias_add or not layer.return_bias:
            return
        product, weight, bias = layer.cpu_linear, layer.weight, layer.bias
        layer.forward = lambda rows: (product(rows, weight, bias), None)

    return dispatch_plain


def _adapted_or(vllms: Forward) -> Forward:
    def forward(self: torch.nn.Module, rows: torch.Tensor) -> Any:
        plain = self._modules["base_layer"].__dict__.get("forward")
        if plain is None or rows.ndim != 2:
            return vllms(self, rows)
        found = plain(rows)
        own = self.__dict__
        down, up, widths = own["lora_a_stacked"], own["lora_b_stacked"], own["output_slices"]
        own["punica_wrapper"].add_lora_linear(found[0], rows, down, up, 1.0, widths)
        return found

    return forward


def _attended_or(vllms: Forward) -> Forward:
    def forward(
        self: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *shape: Any,
        **named: Any,
    ) -> torch.Tensor:
        own, context = self.__dict__, get_forward_context()
        batches, name, tokens = context.attn_metadata, own["layer_name"], query.size(0)
        batch = batches.get(name) if isinstance(batches, dict) else None
        if batch is None or batch.num_actual_tokens != tokens or shape or named:
            return vllms(self, query, key, value, *shape, **named)
        views = own.get("views_of_cache")
        if views is None or views[0] is not own["kv_cache"]:
            views = self.views_of_cache = (own["kv_cache"], *_views(self))
        _, keys, values = views
        if keys is None:
            return vllms(self, query, key, value)
        impl, width = own["impl"], own["head_size"]
        queries = query.view(tokens, own["num_heads"], width)
        new = (tokens, own["num_kv_heads"], width)
        scales = own["_k_scale_float"], own["_v_scale_float"], impl.kv_cache_dtype
        slots = context.slot_mapping[name]
        _WRITE(key.view(new), value.view(new), keys, values, slots, own["isa"], *scales)
        found = torch.empty_like(queries, memory_format=torch.contiguous_format)
        _ATTEND(
            queries,
            keys,
            values,
            found,
            batch.query_start_loc,
            batch.seq_lens,
            impl.scale,
            batch.causal,
            impl.alibi_slopes,
            impl.sliding_window,
            batch.block_table,
            impl.logits_soft_cap,
            batch.scheduler_metadata,
            None,
            batch.dynamic_causal,
            *scales,
        )
        return found.view(tokens, -1)

    return forward


def _views(layer: torch.nn.Module) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Keys and values of a layer's cache (blocks x heads x block x width); None of others'."""
    impl = layer.impl
    plain = (
        type(impl) is CPUAttentionBackendImpl
        and impl.attn_type == AttentionType.DECODER
        and impl.sinks is None
        and layer.query_quant is None
        and layer.kv_sharing_target_layer_name is None
        and layer.head_size == layer.head_size_v
        and layer.kv_cache.ndim == 4
    )
    if not plain:
        return None, None
    blocks, heads, size, _ = layer.kv_cache.size()
    keys, values = layer.kv_cache.view(blocks, heads, 2 * size, -1).chunk(2, dim=2)
    return keys, values
