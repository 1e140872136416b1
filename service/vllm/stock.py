"""An engine that uses only vLLM's public client: `AsyncLLM.generate`, `encode` and `add_lora`.

It works with every version of vLLM whose client has these calls. The fast client
(`service.vllm.fast`) does the same at about half the cost, and depends on vLLM's internals.
"""

import asyncio
import gc
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import Any

import torch
from vllm.inputs import tokens_input
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from service.engine.contract import (
    Adapter,
    AdapterUsage,
    Job,
    LabelLogprobs,
    LabelQuery,
    Pooled,
    PoolQuery,
    Sink,
    Vitals,
)
from service.errors import ConfigurationError, EngineDead, ServiceError
from service.vllm.conversion import (
    OutputReader,
    engine_wait,
    explain,
    explained,
    lora_request,
    sampling_params,
)
from service.vllm.process import read_vitals

USES = (
    "calls vllm.v1.engine.async_llm:AsyncLLM.abort, add_lora, collective_rpc, encode, generate, "
    "list_loras, remove_lora, shutdown",
    "reads vllm.v1.engine.async_llm:AsyncLLM.output_handler",
)

_UNSAMPLED = {"traceparent": f"00-{1:032x}-{1:016x}-00"}
"""Header for requests that are not traced: without it vLLM would begin its own trace."""


class StockEngine:
    """One model on vLLM's AsyncLLM; implements `engine.contract.Engine`.

    `pids` are the engine's processes. `pooling` are the parameters with which an encoder is probed;
    None for a model that generates.
    """

    def __init__(
        self, llm: AsyncLLM, pids: Sequence[int], *, pooling: PoolingParams | None = None
    ) -> None:
        self._llm = llm
        self._pids = pids
        self._pooling = pooling
        self._loading = 0
        self.adapter_requests: Counter[int] = Counter()
        """Requests that got their first token, by the adapter's engine id."""
        traced = llm.vllm_config.observability_config.otlp_traces_endpoint is not None
        self.untraced = _UNSAMPLED if traced else None
        """Headers for untraced requests: unsampled while vLLM exports spans, else None."""

    @property
    def public(self) -> "StockEngine":
        """This engine, but using vLLM's public client alone."""
        return self

    async def run(self, job: Job, sink: Sink) -> None:
        reader = OutputReader(job, self.adapter_requests)
        ending: list[asyncio.Task[None]] = []

        def end() -> None:
            reader.ended_early = True
            ending.append(asyncio.get_running_loop().create_task(self._llm.abort(job.id)))

        job.end = end
        outputs = self._generate(job, sampling_params(job.sampling), job.options)
        with explained():
            async with aclosing(outputs):
                async for output in outputs:
                    sink.take(reader.read(output))

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        last = await _last(self._generate(query, read_parameters(query.token_ids), {}))
        if last is None or not last.outputs[0].logprobs:
            raise EngineDead.midway()
        if query.adapter is not None:
            self.adapter_requests[query.adapter.engine_id] += 1
        (found,) = last.outputs[0].logprobs
        return LabelLogprobs(
            logprobs=[found[each].logprob for each in query.token_ids],
            likeliest=last.outputs[0].token_ids[0],
            prompt_tokens=len(query.prompt),
            cached_tokens=last.num_cached_tokens or 0,
            engine_wait=engine_wait(last.metrics),
        )

    def _generate(
        self, asked: Job | LabelQuery, params: SamplingParams, options: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        outputs: AsyncGenerator[Any, None] = self._llm.generate(
            tokens_input(list(asked.prompt), cache_salt=asked.cache_salt),
            params,
            asked.id,
            lora_request=lora_request(asked.adapter),
            priority=asked.priority,
            trace_headers=asked.trace_headers or self.untraced,
            **options,
        )
        return outputs

    async def pool(self, query: PoolQuery) -> Pooled:
        outputs = self._llm.encode(
            tokens_input(list(query.prompt), cache_salt=query.cache_salt),
            query.parameters,
            query.id,
            priority=query.priority,
        )
        return _pooled(await _last(outputs))

    async def load(self, adapter: Adapter) -> None:
        self._loading += 1
        try:
            await self._llm.add_lora(lora_request(adapter))
        except EngineDeadError as error:
            raise explain(error) or error from error
        except Exception as error:
            raise ConfigurationError(
                f"adapter {adapter.name!r}: the engine refuses it: {error}"
            ) from error
        finally:
            self._loading -= 1

    async def unload(self, adapter: Adapter) -> None:
        with explained():
            await self._llm.remove_lora(adapter.engine_id)
        del self.adapter_requests[adapter.engine_id]

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        with explained():  # every worker reads the same adapters
            (counts, *_) = await self._llm.collective_rpc("adapter_reads")
        return {key: AdapterUsage(self.adapter_requests[key], n, s) for key, n, s in counts}

    async def resident(self) -> frozenset[int]:
        with explained():
            return frozenset(await self._llm.list_loras())

    def vitals(self) -> Vitals | None:
        return read_vitals(self._pids, loading=self._loading > 0)

    async def probe(self) -> None:
        name = f"probe-{uuid.uuid4().hex}"
        if self._pooling is not None:
            await self.pool(PoolQuery([0], self._pooling, id=name, cache_salt="probe"))
            return
        for generate in on_each_rank(self._llm):
            parameters = read_parameters((0,))
            await _last(generate(tokens_input([0]), parameters, name, trace_headers=self.untraced))

    async def check(self) -> None:
        if self._llm.errored:
            raise EngineDead("The engine has ended.", retry_after=5)

    async def stop(self) -> None:
        await stop_llm(self._llm)
        # Objects frozen at the start may be collected again.
        gc.unfreeze()


async def stop_llm(llm: AsyncLLM) -> None:
    """End vLLM's engine and its processes within six seconds;

    several engines can end concurrently. vLLM blocks for up to five seconds until the processes
    end, then kills them. This runs in a new thread, because the event loop's pool may have fewer
    threads than there are engines. The task that would log the engine's end as a failure, and
    report it to all requests, is cancelled first.
    """
    if (reader := llm.output_handler) is not None:
        reader.cancel()
        await asyncio.wait([reader])
    with ThreadPoolExecutor(1, thread_name_prefix="stop") as thread:
        await asyncio.get_running_loop().run_in_executor(thread, llm.shutdown)


def read_parameters(token_ids: Sequence[int]) -> SamplingParams:
    """vLLM's parameters of a label read: one step, with the log-probabilities of these tokens."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(token_ids),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


async def _last(outputs: AsyncGenerator[Any, None]) -> Any:
    """The last output of a request, None if it has none; raises the service's errors."""
    last = None
    with explained():
        async with aclosing(outputs):
            async for output in outputs:
                last = output
    return last


def _pooled(output: Any) -> Pooled:
    """The values of an output; EngineDead for None, ServiceError if they are not finite."""
    # An older vLLM knows no error beside an output, only an output without values.
    failed = output is None or getattr(output, "error", None) is not None
    values = None if failed else output.outputs.data
    if not isinstance(values, torch.Tensor) or not values.numel():
        raise EngineDead.midway()
    if not torch.isfinite(values).all():
        raise ServiceError("The encoder gave values that are not finite.")
    return Pooled(
        values.detach().to(torch.float32).flatten().numpy(),
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
    )


def on_each_rank(llm: Any) -> list[Callable[..., AsyncGenerator[Any, None]]]:
    """Call `AsyncLLM.generate` on each rank; one unless vLLM balances load over several."""
    parallel = llm.vllm_config.parallel_config
    if parallel.data_parallel_external_lb or parallel.data_parallel_size == 1:
        return [llm.generate]
    ranks = range(parallel.data_parallel_size)
    return [partial(llm.generate, data_parallel_rank=rank) for rank in ranks]
