"""An engine by vLLM's insides: own states, sockets, texts and statistics, at half the cost."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.stats import IterationStats

from service.engine.contract import Job, LabelQuery, Sink
from service.engine.protocol import LabelLogprobs, Sampling
from service.vllm.conversion import OutputReader, explained, is_dear, lora_request, sampling_params
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.fast.gathered_stats import GatheredStats
from service.vllm.fast.request import FastRequest, LabelRequest, run_request
from service.vllm.fast.token_texts import keep_decoded, keep_texts
from service.vllm.fast.transport import EngineTransport
from service.vllm.stock import StockClient, StockEngine, read_parameters

USES = (
    "reads vllm.config.model:ModelConfig.return_sampling_mask",
    "reads vllm.config.vllm:VllmConfig.aux_output_config",
    "replaces vllm.renderers.base:BaseRenderer.get_eos_token_id",
    "fields of vllm.sampling_params:SamplingParams",
    "calls vllm.v1.engine.async_llm:AsyncLLM.add_request",
    "reads vllm.v1.engine.core_client:AsyncMPClient.abort_requests_async",
    "reads vllm.v1.engine.input_processor:InputProcessor._validate_model_inputs",
    "reads vllm.v1.engine.input_processor:InputProcessor.process_inputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.external_req_ids",
    "reads vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "reads vllm.v1.engine.output_processor:OutputProcessor.stream_interval",
    "calls vllm.v1.engine.output_processor:RequestOutputCollector.get_nowait",
    "replaces vllm.v1.engine.output_processor:RequestOutputCollector.put",
    "fields of vllm.v1.engine:EngineCoreOutput",
    "fields of vllm.v1.engine:EngineCoreRequest",
    "fields of vllm.v1.engine:FinishReason",
    "fields of vllm.v1.metrics.stats:IterationStats",
)

_KEPT = 1024


class FastEngine(StockEngine):
    """One language model on vLLM; generations and label reads go past vLLM's client."""

    def __init__(self, llm: AsyncLLM, pids: Sequence[int]) -> None:
        super().__init__(llm, pids)
        self._stock = StockEngine(llm, pids)
        self._stock.adapter_requests = self.adapter_requests
        self._dispatcher = OutputDispatcher(llm.output_processor)
        self._reads = lru_cache(_KEPT)(lambda ids: completed(llm, read_parameters(ids)))
        self._shared = lru_cache(_KEPT)(self._completed)
        self._plain = llm.output_processor.stream_interval == 1 and not _adds_arrays(llm)
        _know_end_token(llm.renderer)
        keep_texts(llm.renderer.get_tokenizer())
        keep_decoded(llm.output_processor)

    @property
    def public(self) -> StockEngine:
        return self._stock

    async def run(self, job: Job, sink: Sink) -> None:
        reader = OutputReader(job, self.adapter_requests)
        job.end = partial(self._end, job.id)
        with explained():
            if not (self._plain and _has_text_alone(job.sampling)):
                # vLLM's own objects add up log-probabilities and tell several answers apart.
                request = CollectedRequest(job, sink, reader)
                await request.run(self._llm, sampling_params(job.sampling), self._options(job))
                return
            message, processor = self._message(job), self._llm.output_processor
            own = FastRequest(processor, message, sink, reader, self._dispatcher)
            await run_request(self._llm, self._dispatcher, own, message, own.state, own.ended)

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        traced = query.trace_headers if self._llm.output_processor.tracing_enabled else None
        with explained():
            message = build_engine_request(
                self._llm,
                query.id,
                query.prompt,
                self._reads(query.token_ids),
                lora=lora_request(query.adapter),
                salt=query.cache_salt,
                priority=query.priority,
                trace_headers=traced or self.untraced,
            )
            read = LabelRequest(self._llm, message, self.adapter_requests, self._dispatcher)
            await run_request(self._llm, self._dispatcher, read, message, read.state, read.ended)
        return read.ended.result()

    def _options(self, job: Job) -> dict[str, Any]:
        return {
            **job.options,
            "lora_request": lora_request(job.adapter),
            "priority": job.priority,
            "trace_headers": job.trace_headers or self.untraced,
        }

    def _message(self, job: Job) -> EngineCoreRequest:
        """The job as the engine takes it; raises vLLM's errors."""
        shared = self._shared if _is_shared(job.sampling) else self._completed
        made = build_engine_request(
            self._llm,
            job.id,
            job.prompt,
            shared(job.sampling),
            lora=lora_request(job.adapter),
            salt=job.cache_salt,
            priority=job.priority,
            trace_headers=job.trace_headers or self.untraced,
        )
        for name, value in job.options.items():
            setattr(made, name, value)
        return made

    def _completed(self, sampling: Sampling) -> SamplingParams:
        return completed(self._llm, sampling_params(sampling))

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


def _has_text_alone(sampling: Sampling) -> bool:
    """True if the answer is one that holds a text and nothing else."""
    return (
        sampling.n == 1
        and sampling.logprobs is None
        and sampling.prompt_logprobs is None
        and not is_dear(sampling)
    )


def _is_shared(sampling: Sampling) -> bool:
    """True for parameters that other requests will have too, and that can be told apart."""
    return (
        sampling.seed is None
        and sampling.structure is None
        and sampling.logit_bias is None
        and not sampling.stop
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


class FastClient(StockClient):
    """Starts engines whose sockets the service reads and writes itself."""

    kind = "fast"
    stats = GatheredStats

    def start(self, config: Any, *stat_loggers: Any) -> Any:
        llm = super().start(config, *stat_loggers)
        EngineTransport.replace(llm)
        return llm

    def engine(self, llm: Any, pids: Sequence[int]) -> StockEngine:
        return FastEngine(llm, pids)


_ANY_PROMPT = tokens_input([0])


def completed(llm: AsyncLLM, params: SamplingParams) -> SamplingParams:
    """Parameters that vLLM has checked and completed for its engine, with a given `max_tokens`.

    Requests may share them, since nothing changes them later. Raises vLLM's errors.
    """
    request: EngineCoreRequest = llm.input_processor.process_inputs(
        "", _ANY_PROMPT, params, ("generate",)
    )
    return request.sampling_params


def build_engine_request(
    llm: AsyncLLM,
    name: str,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    lora: LoRARequest | None,
    salt: str,
    priority: int,
    trace_headers: Mapping[str, str] | None,
) -> EngineCoreRequest:
    """A request with completed parameters, under a name that no other has.

    Raises vLLM's errors for a prompt that is empty or too long.
    """
    llm.input_processor._validate_model_inputs(None, tokens_input(prompt))
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=lora,
        cache_salt=salt,
        data_parallel_rank=None,
        priority=priority,
        trace_headers=trace_headers,
        external_req_id=name,
    )


class CollectedRequest:
    """Runs a job through vLLM's `add_request`, with a function in the place of its queue's."""

    def __init__(self, job: Job, sink: Sink, reader: OutputReader) -> None:
        self._job = job
        self._sink = sink
        self._reader = reader
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, llm: AsyncLLM, params: SamplingParams, options: dict[str, Any]) -> None:
        """Run the job; it is aborted if the wait fails or is cancelled."""
        job = self._job
        prompt = {**tokens_input(list(job.prompt)), "cache_salt": job.cache_salt}
        queue = await llm.add_request(job.id, prompt, params, **options)
        # vLLM's output processor calls this for every step that has something for the request.
        queue.put = self._put
        if (early := queue.get_nowait()) is not None:
            self._put(early)
        try:
            await self._ended
        except BaseException:
            await llm.abort(queue.request_id, internal=True)
            raise

    def _put(self, output: Any) -> None:
        if self._ended.done():
            return
        try:
            if isinstance(output, Exception):
                raise output
            self._sink.take(self._reader.read(output))
        except Exception as error:
            self._ended.set_exception(error)
            return
        if output.finished:
            self._ended.set_result(None)
