"""The KV cache that vLLM would make, by its own specifications of layers and groups."""

from copy import copy
from dataclasses import dataclass

from vllm.config import VllmConfig
from vllm.utils.math_utils import cdiv
from vllm.utils.torch_utils import kv_cache_dtype_str_to_dtype
from vllm.v1.core.kv_cache_utils import estimate_max_model_len, get_kv_cache_groups
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
    get_kv_quant_mode,
)


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Specification of each layer of one pipeline stage, on one GPU."""

    config: VllmConfig
    specs: dict[str, KVCacheSpec]

    def sequence_bytes(self) -> int:
        """Bytes of one sequence of the longest length, groups of layers padded as vLLM does."""
        groups = get_kv_cache_groups(_with_layout(self.config), dict(self.specs))
        block = pages = 0
        for group in groups:
            spec = group.kv_cache_spec
            if isinstance(spec, UniformTypeKVCacheSpecs):
                block = max(block, spec.page_size_bytes)
                pages += spec.max_memory_usage_pages(self.config)
            else:
                block = max(block, spec.page_size_bytes * len(group.layer_names))
                pages += cdiv(spec.max_memory_usage_bytes(self.config), spec.page_size_bytes)
        return block * pages

    def longest(self, available: int) -> int:
        """The longest sequence, in tokens, that so many bytes hold; 0 for none."""
        return int(estimate_max_model_len(self.config, self.specs, available))


def cache_shape(config: VllmConfig, stage: range) -> CacheShape:
    """The shape of these layers' cache.

    Raises NotImplementedError for models whose layers keep states of other kinds.
    """
    model = config.model_config
    if model.is_hybrid or model.is_attention_free or model.is_encoder_decoder:
        raise NotImplementedError(f"{model.architecture} keeps more than keys and values")
    return CacheShape(config, {f"layers.{layer}": _spec(config, layer) for layer in stage})


def _with_layout(config: VllmConfig) -> VllmConfig:
    """A copy with a layout of blocks, which the engine itself chooses only when it has started."""
    if config.cache_config.kv_cache_layout is not None:
        return config
    config = copy(config)
    config.cache_config = copy(config.cache_config)
    config.cache_config.kv_cache_layout = "LBNHC"
    return config


def _spec(config: VllmConfig, layer: int) -> KVCacheSpec:
    model, cache = config.model_config, config.cache_config
    arch = model.model_arch_config[layer]
    common = {
        "block_size": cache.block_size,
        "num_kv_heads": model.get_num_kv_heads(config.parallel_config, arch),
        "head_size": arch.head_size,
        "dtype": kv_cache_dtype_str_to_dtype(cache.cache_dtype, model),
        "kv_quant_mode": get_kv_quant_mode(cache.cache_dtype),
    }
    if model.use_mla:
        return MLAAttentionSpec(**common, cache_dtype_str=cache.cache_dtype)
    window = _window(config, layer)
    if window is not None:
        return SlidingWindowSpec(**common, sliding_window=window)
    return FullAttentionSpec(**common)


def _window(config: VllmConfig, layer: int) -> int | None:
    """Tokens that a layer sees, None for all; as the models' own code reads the configuration."""
    text = config.model_config.hf_text_config
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        window: int | None = config.cache_config.sliding_window
        return window
    sliding = kinds[layer] == "sliding_attention" and not config.model_config.disable_sliding_window
    return getattr(text, "sliding_window", None) if sliding else None
