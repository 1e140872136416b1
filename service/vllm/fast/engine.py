"""An engine on vLLM's internals: own states, sockets, texts and statistics, at half the cost."""

import asyncio
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.stats import IterationStats

from service.engine.contract import Job, LabelLogprobs, LabelQuery, Sampling, Sink
from service.vllm.conversion import OutputReader, explained, is_dear, lora_request, sampling_params
from service.vllm.engine import StockClient, VllmEngine
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.fast.gathered_stats import GatheredStats
from service.vllm.fast.request import FastRequest, LabelRequest
from service.vllm.fast.token_texts import keep_decoded, keep_texts
from service.vllm.fast.transport import EngineTransport
from service.vllm.stock import StockEngine, read_parameters

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
_ANY_PROMPT = tokens_input([0])


class FastEngine(VllmEngine):
    """One language model on vLLM; generations and label reads bypass vLLM's client.

    They use vLLM's client if the self-check finds differences.
    """

    def __init__(self, llm: AsyncLLM, *arguments: Any, **options: Any) -> None:
        super().__init__(llm, *arguments, **options)
        self._dispatcher = OutputDispatcher(llm.output_processor)
        self._reads = lru_cache(_KEPT)(lambda ids: self._completed(read_parameters(ids)))
        self._shared = lru_cache(_KEPT)(lambda each: self._completed(sampling_params(each)))
        self._plain = llm.output_processor.stream_interval == 1 and not _adds_arrays(llm)
        _know_end_token(llm.renderer)
        keep_texts(llm.renderer.get_tokenizer())
        keep_decoded(llm.output_processor)

    @property
    def public(self) -> StockEngine:
        return StockEngine(self._llm, self._pids)

    async def run(self, job: Job, sink: Sink) -> None:
        if self.model.client == "stock":
            await super().run(job, sink)
            return
        reader = OutputReader(job, self.adapter_requests)
        job.end = partial(self._end, job.id)
        with explained():
            if not (self._plain and _has_text_alone(job.sampling)):
                await self._collect(job, sink, reader)
                return
            sampling = job.sampling
            params = (
                self._shared(sampling)
                if _is_shared(sampling)
                else self._completed(sampling_params(sampling))
            )
            message = self._message(job, params, job.trace_headers)
            for name, value in job.options.items():
                setattr(message, name, value)
            await FastRequest(self._llm, self._dispatcher, message, sink, reader).run()

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        if self.model.client == "stock":
            return await super().logprobs(query)
        traced = query.trace_headers if self._llm.output_processor.tracing_enabled else None
        with explained():
            message = self._message(query, self._reads(query.token_ids), traced)
            read = LabelRequest(self._llm, self._dispatcher, message, self.adapter_requests)
            await read.run()
        found: LabelLogprobs = read.ended.result()
        return found

    async def _collect(self, job: Job, sink: Sink, reader: OutputReader) -> None:
        """Run a job through vLLM's `add_request`, with a callback in the place of its queue.

        vLLM's own objects accumulate log-probabilities and separate several answers. The job is
        aborted if the wait fails or is cancelled.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def put(output: Any) -> None:
            if ended.done():
                return
            try:
                if isinstance(output, Exception):
                    raise output
                sink.take(reader.read(output))
            except Exception as error:
                ended.set_exception(error)
                return
            if output.finished:
                ended.set_result(None)

        queue = await self._llm.add_request(
            job.id,
            {**tokens_input(list(job.prompt)), "cache_salt": job.cache_salt},
            sampling_params(job.sampling),
            lora_request=lora_request(job.adapter),
            priority=job.priority,
            trace_headers=job.trace_headers or self.untraced,
            **job.options,
        )
        # vLLM's output processor calls this for every step that has something for the request.
        queue.put = put
        if (early := queue.get_nowait()) is not None:
            put(early)
        try:
            await ended
        except BaseException:
            await self._llm.abort(queue.request_id, internal=True)
            raise

    def _message(
        self, asked: Job | LabelQuery, params: SamplingParams, traced: Mapping[str, str] | None
    ) -> EngineCoreRequest:
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
            trace_headers=traced or self.untraced,
            external_req_id=asked.id,
        )

    def _completed(self, params: SamplingParams) -> SamplingParams:
        """Have vLLM check and complete parameters for its engine; raises vLLM's errors.

        `max_tokens` must be set. Requests may share the result, since nothing changes it later.
        """
        made = self._llm.input_processor.process_inputs("", _ANY_PROMPT, params, ("generate",))
        return made.sampling_params

    def _end(self, name: str) -> None:
        """End a request at once, as if it had reached `max_tokens` for vLLM's output processor.

        vLLM's own abort reports another reason, and keeps the parent of several answers.
        """
        processor = self._llm.output_processor
        ids = list(processor.external_req_ids.get(name, (name,)))
        ends = [EngineCoreOutput(each, [], finish_reason=FinishReason.LENGTH) for each in ids]
        processor.process_outputs(ends, time.monotonic(), IterationStats())
        abort = self._llm.engine_core.abort_requests_async(ids)
        self._aborting = asyncio.get_running_loop().create_task(abort)


def _has_text_alone(sampling: Sampling) -> bool:
    """True if the answer consists of text alone, without log-probabilities or several sequences."""
    return (
        sampling.n == 1
        and sampling.logprobs is None
        and sampling.prompt_logprobs is None
        and not is_dear(sampling)
    )


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


def _know_end_token(renderer: Any) -> None:
    """Cache the end token, which vLLM looks up in the tokenizer for every request."""
    end = renderer.get_eos_token_id()
    renderer.get_eos_token_id = lambda: end


class FastClient(StockClient):
    """Starts engines whose sockets the service reads and writes itself."""

    kind = "fast"
    engine = FastEngine
    stats = GatheredStats

    def start(self, config: Any, *stat_loggers: Any) -> Any:
        llm = super().start(config, *stat_loggers)
        EngineTransport.replace(llm)
        return llm
