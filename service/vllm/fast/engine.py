"""An engine on vLLM's internals: it keeps states, sockets and texts itself, at half the cost."""

import time
from functools import lru_cache
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM

from service.engine.contract import Job, LabelLogprobs, LabelQuery, Sampling, Sink
from service.vllm.conversion import OutputReader, explained, lora_request, sampling_params
from service.vllm.engine import VllmEngine
from service.vllm.fast.request import FastRequest, LabelRequest, OutputDispatcher
from service.vllm.fast.token_texts import keep_decoded, keep_texts
from service.vllm.stock import StockEngine, read_parameters

USES = (
    "reads vllm.config.model:ModelConfig.return_sampling_mask",
    "reads vllm.config.vllm:VllmConfig.aux_output_config",
    "fields of vllm.sampling_params:SamplingParams",
    "reads vllm.v1.engine.input_processor:InputProcessor._validate_model_inputs, process_inputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.stream_interval",
    "fields of vllm.v1.engine:EngineCoreRequest",
)

_KEPT = 1024
_ANY_PROMPT = tokens_input([0])


class FastEngine(VllmEngine):
    """One language model on vLLM; single answers and label reads bypass vLLM's client.

    All other requests use vLLM's client. If the self-check finds differences, single answers and
    label reads use it too.
    """

    def __init__(self, llm: AsyncLLM, *arguments: Any, **options: Any) -> None:
        super().__init__(llm, *arguments, **options)
        self._dispatcher = OutputDispatcher(llm.output_processor)
        self._reads = lru_cache(_KEPT)(lambda ids: self._completed(read_parameters(ids)))
        self._shared = lru_cache(_KEPT)(lambda each: self._completed(sampling_params(each)))
        self._plain = llm.output_processor.stream_interval == 1 and not _adds_arrays(llm)
        keep_texts(llm.renderer.get_tokenizer())
        keep_decoded(llm.output_processor)

    @property
    def public(self) -> StockEngine:
        return StockEngine(self._llm, self._pids)

    async def run(self, job: Job, sink: Sink) -> None:
        sampling = job.sampling
        if self.model.client == "stock" or not (self._plain and _has_text_alone(sampling)):
            await super().run(job, sink)
            return
        with explained():
            params = (
                self._shared(sampling)
                if _is_shared(sampling)
                else self._completed(sampling_params(sampling))
            )
            message = self._message(job, params)
            for name, value in job.options.items():
                setattr(message, name, value)
            reader = OutputReader(job, self.adapter_requests)
            request = FastRequest(self._llm, self._dispatcher, message, sink, reader)
            job.end = request.end
            await request.run()

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        if self.model.client == "stock":
            return await super().logprobs(query)
        with explained():
            message = self._message(query, self._reads(query.token_ids))
            read = LabelRequest(self._llm, self._dispatcher, message)
            await read.run()
        if query.adapter is not None:
            self.adapter_requests[query.adapter.engine_id] += 1
        found: LabelLogprobs = read.ended.result()
        return found

    def _message(self, asked: Job | LabelQuery, params: SamplingParams) -> EngineCoreRequest:
        """A request with completed parameters, as the engine takes it.

        Raises vLLM's errors for a prompt that is empty or too long.
        """
        self._llm.input_processor._validate_model_inputs(None, tokens_input(asked.prompt))
        return EngineCoreRequest(
            request_id=asked.id,
            prompt_token_ids=asked.prompt,
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=lora_request(asked.adapter),
            cache_salt=asked.cache_salt,
            data_parallel_rank=None,
            priority=asked.priority,
            trace_headers=asked.trace_headers or self.untraced,
            external_req_id=asked.id,
        )

    def _completed(self, params: SamplingParams) -> SamplingParams:
        """Have vLLM check and complete parameters for its engine; raises vLLM's errors.

        `max_tokens` must be set. Requests may share the result, since nothing changes it later.
        """
        made = self._llm.input_processor.process_inputs("", _ANY_PROMPT, params, ("generate",))
        return made.sampling_params


def _has_text_alone(sampling: Sampling) -> bool:
    """True if the answer consists of text alone, without log-probabilities or several sequences."""
    return sampling.n == 1 and sampling.logprobs is None and sampling.prompt_logprobs is None


def _is_shared(sampling: Sampling) -> bool:
    """True for parameters that other requests are likely to have too, so that caching them pays."""
    return (
        sampling.seed is None
        and sampling.structure is None
        and sampling.logit_bias is None
        and not sampling.stop
    )


def _adds_arrays(llm: AsyncLLM) -> bool:
    """True if vLLM adds arrays to outputs: routed experts or sampling masks."""
    config = llm.vllm_config
    added = config.aux_output_config.enable_return_routed_experts
    return bool(added or config.model_config.return_sampling_mask)
