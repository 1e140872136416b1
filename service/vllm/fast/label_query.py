"""Label reads, which go to vLLM's engine past the states that its client keeps of requests."""

import asyncio
from collections import Counter
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.outputs import LogprobsLists

from service.engine.protocol import LabelLogprobs
from service.errors import EngineDead
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.fast.request_state import RequestState
from service.vllm.fast.step import Step
from service.vllm.outputs import engine_wait

USES = (
    "reads vllm.sampling_params:SamplingParams.logprob_token_ids",
    "reads vllm.sampling_params:SamplingParams.skip_clone",
    "fields of vllm.v1.outputs:LogprobsLists",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class LabelRequest:
    """One label read, which a step of the engine ends (`dispatcher.Dispatched`).

    vLLM's client gives each request a state, a detokenizer, a queue and an output object. A read
    has one output, with the numbers that were asked for, so that it needs none of these.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        message: EngineCoreRequest,
        adapter_requests: Counter[int],
        dispatcher: OutputDispatcher,
    ) -> None:
        self.request_id = message.request_id
        self.state = RequestState(llm.output_processor, message)
        self.ended: asyncio.Future[LabelLogprobs] = asyncio.get_running_loop().create_future()
        self._lora = message.lora_request
        self._token_ids = message.sampling_params.logprob_token_ids
        self._adapter_requests = adapter_requests
        self._dispatcher = dispatcher

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """End with the read's only output, and count it."""
        self._dispatcher.forget(self.request_id)
        state = self.state
        state.count(output, step)
        if output.new_logprobs is None:
            raise EngineDead.midway()
        if self._lora is not None:
            self._adapter_requests[self._lora.lora_int_id] += 1
        if not self.ended.done():
            self.ended.set_result(self._read(output.new_logprobs))
        return False

    def _read(self, found: LogprobsLists) -> LabelLogprobs:
        """The log-probabilities in the order in which they were asked for."""
        token_ids, logprobs, *_ = found
        read: dict[int, Any] = dict(zip(token_ids[0].tolist(), logprobs[0].tolist(), strict=True))
        return LabelLogprobs(
            logprobs=[read[each] for each in self._token_ids],
            prompt_tokens=self.state.prompt_len,
            cached_tokens=self.state.num_cached_tokens,
            engine_wait=engine_wait(self.state.stats),
        )

    def release(self) -> None:
        """Hand on nothing: a read has no text."""

    def fail(self, error: Exception) -> None:
        self._dispatcher.forget(self.request_id)
        if not self.ended.done():
            self.ended.set_exception(error)
