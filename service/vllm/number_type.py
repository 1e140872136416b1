"""The type in which the engine computes, where the processor lacks that of the checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

from service.settings import section as platform

_log = logging.getLogger(__name__)

_EXACT = "float32"
_NEEDED = {
    "bfloat16": ("avx512_bw", "avx_ne_convert"),
    "float16": ("avx512_fp16", "avx_ne_convert"),
}
"""Instructions, as torch names them, of which oneDNN needs one for products of a type."""


def type_for_processor(arguments: Mapping[str, Any]) -> dict[str, str]:
    """`{"dtype": "float32"}` where `dtype` is left to vLLM and the processor has no bfloat16.

    Empty otherwise, and on GPUs. Without AVX-512 oneDNN has no product in bfloat16 or float16, and
    vLLM's fallback took 5 to 7 times as long as float32 (SmolLM2-135M, AVX2).
    """
    stated = str(arguments.get("dtype") or "auto").lower()
    if stated != "auto" or platform.installed() is not platform.CPU or _has_products("bfloat16"):
        return {}
    return {"dtype": _EXACT}


def warn_of_slow_type(config: Any) -> None:
    """Log a warning if the processor has no products in the type of vLLM's configuration."""
    chosen = str(config.model_config.dtype).removeprefix("torch.")
    if platform.installed() is platform.CPU and not _has_products(chosen):
        _log.warning(
            "engine.dtype: this processor multiplies no %s, so each answer takes several times as"
            " long as in float32; `auto` or `float32` is faster",
            chosen,
        )


def _has_products(name: str) -> bool:
    """True if the processor multiplies numbers of this type; it is known of x86 only."""
    import torch

    has = torch.cpu.get_capabilities()
    needed = _NEEDED.get(name)
    return needed is None or has.get("architecture") != "x86_64" or any(map(has.get, needed))
