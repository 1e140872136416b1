"""The base class of the settings' sections, and the pattern of names in them."""

import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

REDIS_ADDRESS = r"(rediss?|valkeys?|redis\+cluster|redis\+sentinel)://."
"""Beginning of the address of a Redis or Valkey, as a regular expression."""

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]


class Section(BaseModel):
    """A frozen section of the settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section_of(annotation: Any) -> type[Section] | None:
    """The section class in a key's annotation, also an optional one; None for other types."""
    kinds = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
    found = (each for each in kinds if isinstance(each, type) and issubclass(each, Section))
    return next(found, None)


@dataclass(frozen=True, slots=True)
class Platform:
    """Times that suit one build of vLLM, in seconds.

    `stall_s` is the default of `watchdog.stall_s`; `warm_up_s` limits the engine's first requests
    together. On GPUs a kernel is compiled when it is first used; this takes seconds, during which
    the engine makes no step.
    """

    name: str
    stall_s: float
    warm_up_s: float


CPU = Platform("cpu", stall_s=6.0, warm_up_s=120.0)
CUDA = Platform("cuda", stall_s=30.0, warm_up_s=600.0)


def installed() -> Platform:
    """The platform for which the installed vLLM was built, whatever devices this machine has.

    vLLM itself (vllm.platforms) decides by the same names and variable, but also looks for a
    device, and importing it takes seconds. Without vLLM the answer is `CPU`.
    """
    if os.environ.get("VLLM_TARGET_DEVICE") == "cpu":
        return CPU
    try:
        return CPU if "cpu" in version("vllm") else CUDA
    except PackageNotFoundError:
        return CPU


def multiplies_8_bits() -> bool:
    """True if this processor's sums of products in 8 bits do not overflow; it is known of x86 only.

    Without VNNI two products are added in 16 bits (oneDNN, "Nuances of int8 computations").
    """
    return _has("avx512_vnni", "avx_vnni")


def multiplies_bfloat16() -> bool:
    """True if oneDNN has products in bfloat16 on this processor; it is known of x86 only."""
    return _has("avx512_bw", "avx_ne_convert")


def _has(*features: str) -> bool:
    """True if this processor has one of these, or is not of x86."""
    import torch

    found = torch.cpu.get_capabilities()
    return found.get("architecture") != "x86_64" or any(map(found.get, features))
