"""vLLM's own figures for a configuration: its model, built on torch's meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.lora.model_manager import LoRAModelManager
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.core.kv_cache_utils import (
    get_kv_cache_config_from_groups,
    get_kv_cache_groups,
    get_max_concurrency_for_kv_cache_config,
)

_POOL = 1 << 40


@dataclass(frozen=True)
class Figures:
    """Bytes on the first GPU of a stage: parameters, LoRA tensors, and KV of a sequence."""

    weights: int
    adapters: int
    sequence: float


def vllm_figures(config: VllmConfig, stage: int = 0) -> Figures:
    """The figures of vLLM's own model, LoRA manager and KV cache manager."""
    config.compilation_config.static_forward_context.clear()
    with _ranks(config, stage), set_current_vllm_config(config):
        with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
            model = initialize_model(config)
        layers: dict[str, Any] = config.compilation_config.static_forward_context
        weights = _bytes(model.parameters())
        specs = {
            name: layer.get_kv_cache_spec(config)
            for name, layer in layers.items()
            if isinstance(layer, AttentionLayerBase)
        }
        adapters = 0 if config.lora_config is None else _adapter_bytes(config, model)
    config.cache_config.kv_cache_layout = "LBNHC"
    groups = get_kv_cache_groups(config, specs)
    pool = get_kv_cache_config_from_groups(config, groups, _POOL)
    return Figures(weights, adapters, _POOL / get_max_concurrency_for_kv_cache_config(config, pool))


def _adapter_bytes(config: VllmConfig, model: Any) -> int:
    manager = LoRAModelManager(
        model,
        config.scheduler_config.max_num_seqs,
        config.scheduler_config.max_num_batched_tokens,
        config.model_config.get_vocab_size(),
        config.lora_config,
        torch.device("cpu"),
        config,
    )
    held: dict[int, torch.Tensor] = {}
    for module in manager.modules.values():
        for name, value in vars(module).items():
            if "lora_a_stacked" in name or "lora_b_stacked" in name:
                for tensor in value if isinstance(value, list | tuple) else (value,):
                    base = tensor if tensor._base is None else tensor._base
                    held[id(base)] = base
    return _bytes(held.values())


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _ranks(config: VllmConfig, stage: int) -> Iterator[None]:
    """The groups of processes as the first process of a stage sees them, without any process."""
    parallel = config.parallel_config

    def group(size: int, rank: int = 0) -> SimpleNamespace:
        return SimpleNamespace(
            world_size=size,
            rank_in_group=rank,
            rank=rank,
            ranks=list(range(size)),
            local_rank=0,
            is_first_rank=rank == 0,
            is_last_rank=rank == size - 1,
            device_group=SimpleNamespace(size=lambda: size, rank=lambda: rank),
            cpu_group=None,
            unique_name="group",
            device_communicator=None,
        )

    groups: dict[str, Any] = {
        "_TP": group(parallel.tensor_parallel_size),
        "_PP": group(parallel.pipeline_parallel_size, stage),
        "_WORLD": group(parallel.world_size),
    } | dict.fromkeys(("_DP", "_EP", "_DCP", "_PCP"), group(1))
    with patch.multiple(parallel_state, **groups):
        yield
