"""vLLM's engine process with its sockets and threads, but an engine that makes up tokens."""

import gc
import os
import queue
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from transformers import AutoTokenizer
from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine import core as vllm_core
from vllm.v1.engine.core import EngineCore, EngineCoreProc

from service.vllm.process import own_place
from tools.mock_engine.options import Options
from tools.mock_engine.pace import Pace
from tools.mock_engine.queue import StreamQueue
from tools.mock_engine.stream import Stream
from tools.mock_engine.words import word_ids

_BLOCKS = 100_000


def take_over() -> None:
    """Make vLLM start `MockEngineProc` instead of its engine process."""
    vllm_core.EngineCoreProc = MockEngineProc


class _MockEngine(EngineCore):  # type: ignore[misc] # vLLM is not followed by mypy
    """The methods that `EngineCoreProc` has from `EngineCore`, without a model."""

    def __init__(
        self,
        vllm_config: Any,
        executor_class: Any,
        log_stats: bool,
        executor_fail_callback: Callable[[], None] | None = None,
        include_finished_set: bool = False,
    ) -> None:
        self.vllm_config = vllm_config
        self.log_stats = log_stats
        self.scheduler = StreamQueue(vllm_config.scheduler_config.max_num_seqs)
        self.step_fn = self.step
        self.aborts_queue = queue.Queue[list[str]]()
        self.batch_queue = None
        self.mm_receiver_cache = None
        self._idle_state_callbacks: list[Any] = []
        self._weight_version = "mock"
        self._adapters: set[int] = set()
        self._pace = Pace(Options.inherited().rate)
        model = vllm_config.model_config
        self._words = word_ids(AutoTokenizer.from_pretrained(model.tokenizer).get_vocab())
        self._max_len = model.max_model_len
        cache = vllm_config.cache_config
        cache.num_gpu_blocks = _BLOCKS
        cache.kv_cache_size_tokens = _BLOCKS * cache.block_size
        gc.freeze()

    def step(self) -> tuple[dict[int, EngineCoreOutputs], bool]:
        """Make one token for every stream, with one message to each front end."""
        self._pace.wait()
        self._process_aborts_queue()
        outputs: defaultdict[int, list[EngineCoreOutput]] = defaultdict(list)
        for stream in self.scheduler.next():
            outputs[stream.client].append(stream.step())
            if stream.ended:
                self.scheduler.end(stream)
        messages = {client: EngineCoreOutputs(outputs=each) for client, each in outputs.items()}
        self._attach_weight_version(messages)
        if messages and self.log_stats:
            next(iter(messages.values())).scheduler_stats = self.scheduler.stats()
        return messages, True

    def post_step(self, model_executed: bool) -> None:
        """Nothing follows a step."""

    def preprocess_add_request(self, request: EngineCoreRequest) -> tuple[EngineCoreRequest, int]:
        """The unchanged request, and its wave."""
        return request, request.current_wave

    def add_request(self, request: EngineCoreRequest, request_wave: int = 0) -> None:
        """Queue a request for its first step."""
        self.scheduler.add(Stream(request, self._words, self._max_len))

    def shutdown(self) -> None:
        """Nothing to release."""

    # Methods that a front end calls by name.

    def get_supported_tasks(self) -> tuple[str, ...]:
        """Tasks that vLLM's front ends open their routes for."""
        return ("generate",)

    def get_kv_cache_group_metadata(self) -> list[dict[str, Any]]:
        """No groups."""
        return []

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: Any = (), kwargs: Any = None
    ) -> list[Any]:
        """The answers of one worker: where it runs, which is here, or nothing."""
        return [own_place() if method == "place" else []]

    def reset_prefix_cache(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """Nothing is cached."""
        return True

    def reset_mm_cache(self) -> None:
        """Nothing is cached."""

    def reset_encoder_cache(self) -> None:
        """Nothing is cached."""

    def is_sleeping(self) -> bool:
        """False: the engine never sleeps."""
        return False

    def add_lora(self, lora_request: LoRARequest) -> bool:
        """Note an adapter; its files are not read."""
        self._adapters.add(lora_request.lora_int_id)
        return True

    def remove_lora(self, lora_id: int) -> bool:
        """Forget an adapter; true if it was there."""
        there = lora_id in self._adapters
        self._adapters.discard(lora_id)
        return there

    def list_loras(self) -> set[int]:
        """Ids of the adapters."""
        return self._adapters

    def pin_lora(self, lora_id: int) -> bool:
        """True if an adapter is there; none is ever evicted."""
        return lora_id in self._adapters


class MockEngineProc(EngineCoreProc, _MockEngine):  # type: ignore[misc] # as above
    """vLLM's engine process; its calls of its base class reach `_MockEngine` first."""

    @staticmethod
    def run_engine_core(*args: Any, **options: Any) -> None:
        """Run as the engine's process until told to stop; the arguments are vLLM's."""
        if cpus := Options.inherited().cpus:
            os.sched_setaffinity(0, cpus)
        take_over()  # again, because a spawned process starts anew
        EngineCoreProc.run_engine_core(*args, **options)
