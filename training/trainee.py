"""A model in training: its trainable parameters, device and precision."""

import gc
from collections.abc import Mapping
from typing import Any

import torch

from service.errors import ConfigurationError
from training.config import TrainingSettings

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Trainee:
    """A module with the parameters to train: those that require a gradient.

    They are kept in float32; products are computed in `training.dtype`.
    """

    def __init__(self, module: torch.nn.Module, training: TrainingSettings) -> None:
        self.device = pick_device(training.device)
        self._dtype = dtype_of(training)
        self._module = module.to(self.device)
        self.parameters: Mapping[str, torch.nn.Parameter] = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def train(self, training: bool) -> None:
        """Switch dropout on or off."""
        self._module.train(training)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the trained parameters."""
        return {name: each.detach().clone() for name, each in self.parameters.items()}

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the trained parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def autocast(self) -> Any:
        """A block whose products are computed in the run's type."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self.device.type, self._dtype, enabled=enabled)


def pick_device(wanted: str) -> torch.device:
    """The device to train on; ConfigurationError for CUDA where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("training.device: cuda, but torch finds no CUDA device")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def dtype_of(training: TrainingSettings) -> torch.dtype:
    """The type of a frozen base and of the products."""
    return _DTYPES[training.dtype]


def attention_on(device: torch.device) -> str:
    """The implementation of attention: for short batches the plain one is faster on a CPU."""
    return "sdpa" if device.type == "cuda" else "eager"


def give_back_memory() -> None:
    """Return what a model on a GPU held, once nothing refers to it, to whoever computes next.

    The process keeps its CUDA context, some hundred MiB.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
