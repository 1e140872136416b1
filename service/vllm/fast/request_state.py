"""The state of a request that the service keeps itself, in the place of vLLM's `RequestState`."""

import asyncio
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import RequestStateStats

from service.vllm.fast.dispatcher import Dispatched, OutputDispatcher
from service.vllm.fast.step import Step

USES = (
    "reads vllm.sampling_params:SamplingParams._watermarking_skipped",
    "reads vllm.v1.engine.core_client:AsyncMPClient.add_request_async",
    "reads vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_finished",
    "reads vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_output",
    "reads vllm.v1.engine.output_processor:OutputProcessor.do_tracing",
    "reads vllm.v1.engine.output_processor:OutputProcessor.tracing_enabled",
    "reads vllm.v1.metrics.stats:LoRARequestStates.request_finished",
    "fields of vllm.v1.metrics.stats:RequestStateStats",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class RequestState:
    """The attributes of a request that vLLM's statistics and traces read.

    vLLM's state has a queue, processors of log-probabilities and places for much that no request
    of this service asks for.
    """

    parent_req = prompt_embeds = None

    def __init__(self, processor: OutputProcessor, message: EngineCoreRequest) -> None:
        params = message.sampling_params
        self.request_id = message.request_id
        self.external_req_id = message.external_req_id
        self.prompt_token_ids = message.prompt_token_ids
        self.prompt_len = len(message.prompt_token_ids)
        self.lora_name = message.lora_request and message.lora_request.lora_name
        self.n, self.max_tokens_param = params.n, params.max_tokens
        self.top_p, self.temperature = params.top_p, params.temperature
        self.stats = RequestStateStats(arrival_time=message.arrival_time)
        if hasattr(params, "_watermarking_skipped"):  # older statistics do not count it
            self.stats.is_watermarked = bool(params.watermarking)
            self.stats.is_watermark_skipped = params._watermarking_skipped
        self.is_prefilling = True
        self.num_cached_tokens = self.num_cache_creation_tokens = 0
        self._processor = processor

    def count(self, output: EngineCoreOutput, step: Step) -> None:
        """Count an output in its step, and the request if this is its last."""
        self._processor._update_stats_from_output(self, output, step.timestamp, step.stats)
        if self.is_prefilling and (prefill := output.prefill_stats) is not None:
            self.num_cached_tokens = prefill.num_cached_tokens
            self.num_cache_creation_tokens = prefill.num_cache_creation_tokens
        self.is_prefilling = False
        if output.finish_reason is not None:
            self._processor._update_stats_from_finished(self, output.finish_reason, step.stats)
            if self._processor.tracing_enabled:
                self._processor.do_tracing(output, self, step.stats)

    def drop(self) -> None:
        """Count the request no more among those of its adapter, because it is aborted."""
        self._processor.lora_states.request_finished(self.request_id, self.lora_name)


async def run_request(
    llm: AsyncLLM,
    dispatcher: OutputDispatcher,
    request: Dispatched,
    message: EngineCoreRequest,
    state: RequestState,
    ended: asyncio.Future[Any],
) -> None:
    """Send a request whose state the service keeps, and wait for its end.

    The request is aborted if the wait fails or is cancelled. Raises EngineDeadError if the engine
    has ended.
    """
    if llm.errored:
        raise EngineDeadError()
    dispatcher.hand_to(request)
    try:
        await llm.engine_core.add_request_async(message)
        await ended
    except BaseException:
        dispatcher.forget(request.request_id)
        state.drop()
        await llm.engine_core.abort_requests_async([request.request_id])
        raise
