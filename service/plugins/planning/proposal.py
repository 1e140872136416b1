"""A proposal of engine arguments for a model and the machine it is on."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import ConfigurationError
from service.plugins.planning.estimate import Estimate
from service.plugins.planning.machine import GIB, Machine
from service.plugins.planning.memory import estimate_memory, find_machine
from service.settings.tree import Settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from service.vllm.environment import KV_CACHE_SPACE

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has kernels for, from 8 on."""
_AT_ONCE = 4
"""Sequences of the full length that the KV cache should hold."""
_ROOMY = 4096
"""Tokens of context that justify more GPUs, if the fewest would leave less."""
_USUAL_TOKENS = 1024
"""Assumed tokens of a request, prompt and answer."""
_FEW = 32
"""Number of such requests at once that justifies more GPUs, if the fewest would hold fewer."""
_WHY_SO_MANY = f"the fewest GPUs that hold the model and {_FEW} requests, or all"
_MOST_SEQUENCES = 256
_MOST_ON_CPU = 32
_UTILIZATION = 0.9
_LEAST_UTILIZATION = 0.2
_SHORTEST = 1024
_FEWEST_SEQUENCES = 16
"""The `max_num_seqs` with which the search tests whether a model fits."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings that fit, the reason for each engine argument, and the assumptions."""

    settings: Settings
    reasons: Mapping[str, str]
    assumptions: Sequence[str]
    estimate: Estimate


def propose(settings: Settings, rank: int | None) -> Proposal:
    """Engine arguments for the model and adapters of these settings, on this machine.

    `rank` is the highest rank of the adapters. Raises ConfigurationError if nothing fits, or if a
    build of vLLM for GPUs finds none.
    """
    machine = find_machine()
    if not machine.on_cpu and not machine.devices:
        raise ConfigurationError("no GPU was found, and this build of vLLM needs one")
    return _Search(settings, machine, rank).run()


class _Search:
    """The search for the fewest GPUs, then the longest context that fits."""

    def __init__(self, settings: Settings, machine: Machine, rank: int | None) -> None:
        self._base, self._machine = settings, machine
        self._reasons: dict[str, str] = {}
        self._assumed: list[str] = []
        self._engine: dict[str, Any] = {}
        self._cpu = settings.cpu
        self._choose_type()
        if rank is not None:
            fitting = next((each for each in _RANKS if each >= rank), _RANKS[-1])
            self._set("max_lora_rank", fitting, f"the adapters' highest rank is {rank}")

    def run(self) -> Proposal:
        if self._machine.on_cpu:
            self._choose_cpu()
            self._choose_length(self._most_tokens())
        else:
            self._choose_utilization()
            self._choose_devices()
        estimate = self._choose_sequences()
        return Proposal(self._settings(), self._reasons, self._assumed, estimate)

    def _set(self, name: str, value: Any, reason: str) -> None:
        self._engine[name] = value
        self._reasons[name] = reason

    def _settings(self, **changes: Any) -> Settings:
        engine = {**self._engine, **changes}
        return self._base.model_copy(update={"engine": engine, "cpu": self._cpu})

    def _estimate(self, **changes: Any) -> Estimate:
        changes.setdefault("max_num_seqs", _FEWEST_SEQUENCES)
        settings = self._settings(**changes)
        config = engine_config(parse_engine_arguments(settings))
        return estimate_memory(config, settings, self._machine)

    def _choose_type(self) -> None:
        if self._machine.on_cpu:
            self._set(
                "dtype", "auto", "the checkpoint's, or float32 on a processor without bfloat16"
            )
        elif min(device.capability for device in self._machine.devices) < (8, 0):
            name = self._machine.devices[0].name
            self._set("dtype", "float16", f"{name} has no bfloat16")
        else:
            self._set("dtype", "auto", "the type of the checkpoint")

    def _choose_utilization(self) -> None:
        share = min(device.free / device.total for device in self._machine.devices)
        value = min(_UTILIZATION, int(share * 100 - 1) / 100)
        if value < _LEAST_UTILIZATION:
            raise ConfigurationError(
                f"only {share:.0%} of a GPU's memory is free: end the programs that use it"
            )
        reason = "the share of each GPU that the engine takes"
        if value < _UTILIZATION:
            reason = f"other programs use {1 - share:.0%} of a GPU"
            self._assumed.append("the memory that other programs use on the GPU stays as it is")
        else:
            self._assumed.append("no other program uses the GPUs")
        self._set("gpu_memory_utilization", value, reason)

    def _choose_cpu(self) -> None:
        self._set("enforce_eager", True, "compiling needs a C++ compiler and a minute")
        needs = self._estimate(max_model_len=_SHORTEST).needs
        left = self._machine.host_free - needs.held - needs.workspace
        gib = max(1, min(16, left // 2 // GIB))
        self._cpu = self._cpu.model_copy(update={"kv_cache_gib": gib})
        os.environ[KV_CACHE_SPACE] = str(gib)  # the first estimate has set it to the default
        self._reasons["kv_cache_gib"] = "half of what the weights leave, at most 16"
        self._assumed.append("the engine may use all cores and half of the free memory")

    def _choose_devices(self) -> None:
        most = self._most_tokens()
        refused: ConfigurationError | None = None
        for count in self._counts():
            try:
                self._choose_length(most, tensor_parallel_size=count)
            except ConfigurationError as error:
                refused = refused or error
                continue
            self._set("tensor_parallel_size", count, _WHY_SO_MANY)
            roomy = self._engine["max_model_len"] >= min(most, _ROOMY)
            if roomy and self._usual_requests(self._estimate()) >= _FEW:
                return
        if "tensor_parallel_size" not in self._engine:
            raise refused or ConfigurationError("no GPU was found")

    def _counts(self) -> Iterator[int]:
        count = 1
        while count <= len(self._machine.devices):
            yield count
            count *= 2

    def _most_tokens(self) -> int:
        """The model's own longest context."""
        config = engine_config(parse_engine_arguments(self._settings()))
        return int(config.model_config.max_model_len)

    def _choose_length(self, most: int, **changes: Any) -> None:
        """The longest context of which enough sequences fit; else the longest that fits."""
        lengths = [most, *(1 << bits for bits in range(20, 9, -1) if 1 << bits < most)]
        fitting: int | None = None
        for length in lengths:
            estimate = self._estimate(max_model_len=length, **changes)
            sequences = estimate.sequences or 0
            if estimate.refusals() or sequences < 1:
                continue
            fitting = fitting or length
            if sequences >= _AT_ONCE:
                reason = "the model's own" if length == most else f"{_AT_ONCE} such sequences fit"
                self._set("max_model_len", length, reason)
                return
        if fitting is None:
            told = estimate.refusals() or estimate.warnings()
            raise ConfigurationError("\n  ".join(["nothing fits:", *told]))
        self._set("max_model_len", fitting, f"the longest that fits, fewer than {_AT_ONCE} at once")

    def _usual_requests(self, estimate: Estimate) -> int:
        """Requests of the assumed size that the KV cache holds at once."""
        return int((estimate.sequences or 0) * estimate.needs.length / _USUAL_TOKENS)

    def _choose_sequences(self) -> Estimate:
        estimate = self._estimate()
        most = _MOST_ON_CPU if self._machine.on_cpu else _MOST_SEQUENCES
        count = max(4, min(most, self._usual_requests(estimate)))
        chosen = self._estimate(max_num_seqs=count)
        if (chosen.sequences or 0) < 1:  # their logits take what the KV cache needs
            count = min(count, _FEWEST_SEQUENCES)
            chosen = estimate
        reason = f"{_USUAL_TOKENS} tokens each on average, at most {most}"
        self._set("max_num_seqs", count, reason)
        self._assumed.append(
            f"requests have {_USUAL_TOKENS} tokens on average, prompt and answer together"
        )
        return chosen
