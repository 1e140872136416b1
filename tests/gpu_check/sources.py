"""vLLM's kernels loaded from the text of its package, where vLLM itself is not installed.

Only torch and Triton are needed. The modules that hold kernels are vLLM's own files; of all that
they import there is a stand-in with the few names that kernels use.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch

KERNELS = frozenset(
    """lora.ops.triton_ops.kernel_utils lora.ops.triton_ops.utils lora.ops.triton_ops.lora_shrink_op
    lora.ops.triton_ops.lora_expand_op lora.ops.triton_ops.lora_kernel_metadata
    model_executor.warmup.jit_warmup model_executor.warmup.jit_warmup_triton_helper
    utils.math_utils v1.sample.ops.topk_topp_triton v1.worker.gpu.sample.gumbel
    v1.worker.gpu.sample.logprob v1.worker.gpu.sample.min_p""".split()
)
"""vLLM's own modules that are loaded."""

MAX_LABELS = 128
"""vLLM's MAX_LOGPROB_TOKEN_IDS."""


class Logprobs(NamedTuple):
    """Log-probabilities, as vLLM's LogprobsTensors."""

    logprob_token_ids: torch.Tensor
    logprobs: torch.Tensor
    selected_token_ranks: torch.Tensor
    cu_num_generated_tokens: Any = None
    cu_num_generated_tokens_tensor: Any = None


class Sources:
    """Finder of `vllm` and all below it: kernels in `folder`, stand-ins otherwise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._given = _stand_ins()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module's specification; None for modules of other packages."""
        if name != "vllm" and not name.startswith("vllm."):
            return None
        inner = name.partition(".")[2]
        if inner in KERNELS:
            file = self._folder / (inner.replace(".", "/") + ".py")
            return importlib.util.spec_from_file_location(name, file)
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Have Python make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Give a stand-in its names."""
        vars(module).update(self._given.get(module.__name__.partition(".")[2], {}))


def use_sources(folder: Path) -> None:
    """Have `vllm` be this folder's kernels, before anything imports it; or FileNotFoundError."""
    if not (folder / "lora").is_dir():
        raise FileNotFoundError(f"{folder} holds no package of vLLM")
    sys.meta_path.insert(0, Sources(folder))


def _stand_ins() -> Mapping[str, Mapping[str, Any]]:
    triton, cuda = import_module("triton"), torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if cuda else (0, 0)
    here = SimpleNamespace(
        is_cuda=lambda: cuda,
        is_cuda_alike=lambda: cuda,
        is_rocm=lambda: False,
        is_xpu=lambda: False,
        is_cpu=lambda: not cuda,
        has_device_capability=lambda least: 10 * capability[0] + capability[1] >= least,
    )
    switches = SimpleNamespace(
        VLLM_BATCH_INVARIANT=False,
        VLLM_LORA_DISABLE_PDL=False,
        VLLM_LORA_ENABLE_DUAL_STREAM=False,
        VLLM_TUNED_CONFIG_FOLDER=None,
    )
    return {
        "": {"envs": switches},
        "logger": {"init_logger": lambda name: _Log()},
        "platforms": {"current_platform": here},
        "sampling_params": {"MAX_LOGPROB_TOKEN_IDS": MAX_LABELS, "SamplingParams": object},
        "triton_utils": {"HAS_TRITON": True, "tl": triton.language, "triton": triton},
        "utils.gpu_sync_debug": {"gpu_sync_allowed": nullcontext},
        "utils.platform_utils": {"num_compute_units": _multiprocessors},
        "utils.torch_utils": {
            "async_tensor_h2d": torch.tensor,
            "direct_register_custom_op": _not_registered,
        },
        "v1.outputs": {"LogprobsTensors": Logprobs},
        "v1.worker.gpu.buffer_utils": {"StagedWriteTensor": object, "UvaBackedTensor": object},
    }


class _Log:
    def info_once(self, *_: Any) -> None:
        """Say nothing."""

    warning_once = info_once


def _multiprocessors(number: int | None = None) -> int:
    if not torch.cuda.is_available():
        return 4
    return int(torch.cuda.get_device_properties(number or 0).multi_processor_count)


def _not_registered(*_: Any, **__: Any) -> None:
    raise AttributeError("operators are called as functions")
