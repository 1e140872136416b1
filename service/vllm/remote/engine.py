"""The engine of a language model that others run, by the HTTP API of vLLM's own server."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from service.engine.contract import (
    Adapter,
    AdapterUsage,
    Job,
    LabelLogprobs,
    LabelQuery,
    ModelInfo,
    Pooled,
    PoolQuery,
    Query,
    Sampling,
    Sink,
    Vitals,
)
from service.errors import EngineDead, ServiceError, UnsupportedFeature
from service.vllm.remote.adapters import RemoteAdapters
from service.vllm.remote.http_client import HttpEngines, UnknownModel
from service.vllm.remote.wire import (
    AnswerReader,
    Decode,
    Taken,
    job_body,
    labels_of,
    read_body,
)

_log = logging.getLogger(__name__)

COMPLETIONS = "/v1/completions"
_PROBE_AGAIN_S = 1.0

Result = TypeVar("Result")


class RemoteEngine:
    """Implements `engine.contract.LanguageEngine` on servers that others run.

    `name` is the base model's name there, and `taken` what the servers take. An engine that does
    not answer fails requests and probes; the service goes on, and is not ready meanwhile.
    """

    def __init__(
        self, http: HttpEngines, model: ModelInfo, name: str, taken: Taken, decode: Decode
    ) -> None:
        self.model = model
        self._http = http
        self._name = name
        self._taken = taken
        self._decode = decode
        self._adapters = RemoteAdapters(http)
        self._requests: Counter[int] = Counter()
        self._stopped = False
        self.last_step = time.monotonic()
        """Time of the last event of any answer, in seconds of `time.monotonic`."""

    async def run(self, job: Job, sink: Sink) -> None:
        job.sampling = self._settled(job)
        await self._served(job, partial(self._run, job, sink))

    async def _run(self, job: Job, sink: Sink) -> None:
        reader = AnswerReader(job, self._decode)
        echoes = job.sampling.prompt_logprobs is not None  # which vLLM puts into no stream
        priority, headers = self._taken.priority, _headers(job)
        body = job_body(job, self._name, priority=priority, stream=not echoes)
        if echoes:
            answer = await self._http.post(COMPLETIONS, body, headers=headers)
            self._stepped(job)
            sink.take(reader.whole(answer))
            return
        async with self._http.stream(COMPLETIONS, body, headers) as stream:

            def end() -> None:
                reader.ended_early = True
                stream.close()

            job.end = end
            first = True
            try:
                async with aclosing(stream.events()) as events:
                    async for event in events:
                        self._stepped(job, first=first)
                        first = False
                        if (output := reader.read(event)) is not None:
                            sink.take(output)
            except EngineDead:
                if not reader.ended_early:
                    raise
            sink.take(reader.end())

    def _settled(self, job: Job) -> Sampling:
        """The sampling as these servers can run it; UnsupportedFeature where they cannot.

        The completions API has no field that says where thoughts end, so a structure would bind
        the thoughts, too.
        """
        sampling = job.sampling
        if sampling.prompt_logprobs is not None and not self.model.echoes:
            raise UnsupportedFeature("prompt_logprobs: `remote.echoes` is off for these engines.")
        if sampling.structure is None:
            return sampling
        if self._taken.structures and job.options.get("reasoning_ended") is not False:
            return sampling
        if not sampling.structure.asked:
            return replace(sampling, structure=None)
        why = "after thoughts" if self._taken.structures else "at all"
        raise UnsupportedFeature(
            f"structured output: engines that are reached by the remote client enforce none {why}"
        )

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        if not self._taken.labels:
            raise UnsupportedFeature(
                "These engines do not answer `logprob_token_ids`, which classification needs."
            )
        body = read_body(query, self._name, priority=self._taken.priority)
        ask = partial(self._http.post, COMPLETIONS, body, headers=_headers(query))
        answer = await self._served(query, ask)
        self._stepped(query)
        return labels_of(answer, query)

    async def pool(self, query: PoolQuery) -> Pooled:
        raise UnsupportedFeature("This model is served for generation and classification only.")

    async def _served(self, query: Query, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do work; if an engine has lost the query's adapter, load it anew and do the work again.

        An engine that was started later than this service has none of its adapters.
        """
        try:
            return await work()
        except UnknownModel:
            if query.adapter is None:
                raise
            _log.warning("adapter %s: an engine lacks it", query.adapter.engine_name)
            await self._adapters.load_again(query.adapter)
            return await work()

    def _stepped(self, query: Query, *, first: bool = True) -> None:
        self.last_step = time.monotonic()
        if first and query.adapter is not None:
            self._requests[query.adapter.engine_id] += 1

    async def load(self, adapter: Adapter) -> None:
        await self._adapters.load(adapter, compare=self._taken.labels)

    async def unload(self, adapter: Adapter) -> None:
        await self._adapters.unload(adapter)
        del self._requests[adapter.engine_id]

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        """Requests by adapter; what the engines read again is not told."""
        return {each: AdapterUsage(self._requests[each], 0, 0.0) for each in self._adapters.ids}

    async def resident(self) -> frozenset[int]:
        return await self._adapters.resident()

    def vitals(self) -> Vitals | None:
        return Vitals(0.0, loading=self._adapters.loading)

    async def probe(self) -> None:
        """Make one step; tries until an engine answers, since others may end and begin again."""
        query = LabelQuery([0], (), id=f"probe-{uuid.uuid4().hex}", cache_salt="probe")
        body = read_body(query, self._name, priority=self._taken.priority)
        body = {key: value for key, value in body.items() if "logprob" not in key}
        while not self._stopped:
            try:
                await self._http.post(COMPLETIONS, body, headers=_headers(query))
            except ServiceError as error:
                _log.debug("remote: a probe failed: %s", error)
                await asyncio.sleep(_PROBE_AGAIN_S)
            else:
                self._stepped(query)
                return

    async def check(self) -> None:
        """Raise EngineDead after `stop` only: engines that others run come and go."""
        if self._stopped:
            raise EngineDead("The engine has ended.", retry_after=5)

    async def warm_up(self) -> None:
        """Nothing is left to be done: the start has tried each kind of work."""

    async def stop(self) -> None:
        self._stopped = True
        await self._http.close()


def _headers(query: Query) -> Mapping[str, str]:
    """The query's id for the servers' logs, and its trace."""
    return {"x-request-id": query.id, **(query.trace_headers or {})}
