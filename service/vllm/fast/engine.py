"""An engine by vLLM's insides: own states, sockets, texts and statistics, at half the cost."""

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.stats import IterationStats

from service.engine.contract import Job, LabelQuery, Meter, Sink
from service.engine.protocol import LabelLogprobs
from service.gate.gate import Gate
from service.vllm.fast.collected import CollectedRequest
from service.vllm.fast.decoded_tokens import keep_decoded
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.fast.engine_request import build_engine_request, completed
from service.vllm.fast.label_query import LabelRequest
from service.vllm.fast.request import FastRequest
from service.vllm.fast.request_state import run_request
from service.vllm.fast.token_texts import keep_texts
from service.vllm.progress import OutputReader
from service.vllm.stock import StockEngine, read_parameters

USES = (
    "reads vllm.config.model:ModelConfig.return_sampling_mask",
    "reads vllm.config.vllm:VllmConfig.aux_output_config",
    "replaces vllm.renderers.base:BaseRenderer.get_eos_token_id",
    "reads vllm.v1.engine.core_client:AsyncMPClient.abort_requests_async",
    "reads vllm.v1.engine.input_processor:InputProcessor.process_inputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.external_req_ids",
    "reads vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.stream_interval",
    "fields of vllm.v1.engine:EngineCoreOutput",
    "fields of vllm.v1.engine:EngineCoreRequest",
    "fields of vllm.v1.engine:FinishReason",
    "fields of vllm.v1.metrics.stats:IterationStats",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_REASONING = {"reasoning_ended", "reasoning_parser_kwargs"}
"""Options that vLLM's client sets after it has made its request."""
_KEPT = 1024


class FastEngine(StockEngine):
    """One language model on vLLM; generations and label reads go past vLLM's client."""

    def __init__(self, llm: AsyncLLM, pids: Sequence[int], gate: Gate) -> None:
        super().__init__(llm, pids)
        self._stock = StockEngine(llm, pids)
        self._stock.adapter_requests = self.adapter_requests
        self._dispatcher = OutputDispatcher(llm.output_processor, gate)
        self._reads = lru_cache(_KEPT)(lambda ids: completed(llm, read_parameters(ids)))
        self._plain = llm.output_processor.stream_interval == 1 and not _adds_arrays(llm)
        self.complete = partial(completed, llm)
        """Completes sampling parameters, as `engine_request.completed`."""
        _know_end_token(llm.renderer)
        keep_texts(llm.renderer.get_tokenizer())
        keep_decoded(llm.output_processor)

    @property
    def public(self) -> StockEngine:
        return self._stock

    async def run(self, job: Job, sink: Sink[Any], meter: Meter) -> None:
        reader = OutputReader(job, self.adapter_requests)
        job.end = partial(self._end, job.id)
        if not (self._plain and _has_text_alone(job.parameters)):
            # vLLM's own objects add up log-probabilities and put several answers together.
            request = CollectedRequest(job, sink, meter, reader, self._dispatcher)
            await request.run(self._llm, self._options(job))
            return
        message, processor = self._message(job), self._llm.output_processor
        own = FastRequest(processor, job, message, sink, meter, reader, self._dispatcher)
        await run_request(self._llm, self._dispatcher, own, message, own.state, own.ended)

    async def logprobs(self, query: LabelQuery, meter: Meter) -> LabelLogprobs:
        traced = query.trace_headers if self._llm.output_processor.tracing_enabled else None
        message = build_engine_request(
            self._llm,
            query.id,
            query.prompt,
            self._reads(query.token_ids),
            lora=query.adapter,
            salt=query.cache_salt,
            priority=query.priority,
            trace_headers=traced or self.untraced,
        )
        read = LabelRequest(self._llm, message, meter, self.adapter_requests, self._dispatcher)
        await run_request(self._llm, self._dispatcher, read, message, read.state, read.ended)
        return read.ended.result()

    def _options(self, job: Job) -> dict[str, Any]:
        return {
            **job.options,
            "lora_request": job.adapter,
            "priority": job.priority,
            "trace_headers": job.trace_headers or self.untraced,
        }

    def _message(self, job: Job) -> EngineCoreRequest:
        """The job as the engine takes it, under its own name; raises vLLM's errors."""
        options = self._options(job)
        later = {name: options.pop(name) for name in _REASONING & options.keys()}
        if job.prepared:
            made = build_engine_request(
                self._llm,
                job.id,
                job.prompt["prompt_token_ids"],
                job.parameters,
                lora=job.adapter,
                salt=job.cache_salt,
                priority=job.priority,
                trace_headers=options["trace_headers"],
            )
        else:
            prompt = {**job.prompt, "cache_salt": job.cache_salt}
            made = self._llm.input_processor.process_inputs(
                job.id, prompt, job.parameters, ("generate",), **options
            )
            made.external_req_id = made.request_id
        for name, value in later.items():
            setattr(made, name, value)
        return made

    def _end(self, name: str) -> None:
        """End a request at once, for vLLM's output processor as if it had reached `max_tokens`.

        vLLM's own abort names another reason, and keeps the parent of several answers.
        """
        processor = self._llm.output_processor
        ids = list(processor.external_req_ids.get(name, (name,)))
        ends = [EngineCoreOutput(each, [], finish_reason=FinishReason.LENGTH) for each in ids]
        processor.process_outputs(ends, time.monotonic(), IterationStats())
        abort = self._llm.engine_core.abort_requests_async(ids)
        self._aborting = asyncio.get_running_loop().create_task(abort)


def _has_text_alone(params: SamplingParams) -> bool:
    """True if the answer is one that holds a text and nothing else, handed on in each step."""
    return (
        params.n == 1
        and (params.stream_interval or 1) == 1
        and params.logprobs is None
        and params.prompt_logprobs is None
        and params.logprob_token_ids is None
        and not params.extra_args
    )


def _adds_arrays(llm: AsyncLLM) -> bool:
    """True if outputs hold more than tokens and texts."""
    config = llm.vllm_config
    added = config.aux_output_config.enable_return_routed_experts
    return bool(added or config.model_config.return_sampling_mask)


def _know_end_token(renderer: Any) -> None:
    """Have the end token at hand, which vLLM looks up in the tokenizer for every request."""
    end = renderer.get_eos_token_id()
    renderer.get_eos_token_id = lambda: end
