"""vLLM's arguments of an encoder's engine."""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from service.errors import ConfigurationError, Interrupted
from service.settings.encoders import EncoderSettings
from service.settings.tree import Settings
from service.vllm.argument_names import BY_STOCK
from service.vllm.arguments import (
    parse_engine_arguments,
    parsed_arguments,
    prepare_machine,
    stated_arguments,
)
from service.vllm.cores import THREAD_BINDING, joined
from service.vllm.environment import COMPILER_OFF, is_eager, variables_set
from service.vllm.number_type import type_for_processor
from service.vllm.worker import WORKER_EXTENSION

_REFUSED = {
    "runner": "an encoder's runner is always `pooling`",
    "convert": "the model's class decides",
    "enable_lora": "encoders have no adapters",
}
_SHARE = "gpu_memory_utilization"
_ROUNDING = 1e-6


def parse_encoder_arguments(encoder: EncoderSettings) -> Namespace:
    """vLLM's argument namespace of an encoder; raises as `parse_engine_arguments`."""
    stated = stated_arguments(encoder.engine)
    for name in _REFUSED.keys() & stated.keys():
        raise ConfigurationError(f"engine.{name}: not accepted here; {_REFUSED[name]}")
    for name in BY_STOCK.keys() & stated.keys():
        raise ConfigurationError(f"engine.{name}: not accepted here; encoders have none")
    return parsed_arguments(
        {
            **stated,
            **type_for_processor(stated),
            "model": str(encoder.path),
            "served_model_name": [encoder.name],
            "runner": "pooling",
            "scheduling_policy": "priority",
            "worker_extension_cls": WORKER_EXTENSION,
        }
    )


def check_shares(settings: Settings) -> None:
    """Raise ConfigurationError if the shares of a GPU's memory that all engines want exceed 1.

    On the CPU build vLLM reserves nothing by a share, because `cpu.kv_cache_gib` sets the memory.
    The sum is checked all the same, so that a configuration also holds on a GPU.
    """
    if not settings.encoders:
        return
    shares = {}
    if settings.model is None:
        prepare_machine(settings)
    else:
        shares[settings.model.name] = float(getattr(parse_engine_arguments(settings), _SHARE))
    for encoder in settings.encoders:
        with named(encoder):
            shares[encoder.name] = float(getattr(parse_encoder_arguments(encoder), _SHARE))
    if sum(shares.values()) > 1 + _ROUNDING:
        told = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise ConfigurationError(
            f"engine.{_SHARE}: the shares of all engines must be at most 1 together, got {told}"
        )


@contextmanager
def named(encoder: EncoderSettings) -> Iterator[None]:
    """Name the encoder in a ConfigurationError of the block."""
    try:
        yield
    except Interrupted:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"encoder {encoder.name}: {error}") from error


def environment_of(encoder: EncoderSettings) -> AbstractContextManager[None]:
    """Set the variables of this engine's processes alone, while they are started."""
    return variables_set(
        {
            COMPILER_OFF: "1" if is_eager(encoder.engine) else None,
            THREAD_BINDING: joined(os.environ.get(THREAD_BINDING)),
        }
    )
