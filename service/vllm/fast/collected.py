"""Generations with the states of vLLM's client, handed on in the engine's own steps."""

import asyncio
from dataclasses import replace
from typing import Any

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from service.engine.contract import Job, Meter, Progress, Sink
from service.vllm.fast.dispatcher import OutputDispatcher
from service.vllm.progress import OutputReader

USES = (
    "calls vllm.v1.engine.async_llm:AsyncLLM.add_request",
    "calls vllm.v1.engine.output_processor:RequestOutputCollector.get_nowait",
    "replaces vllm.v1.engine.output_processor:RequestOutputCollector.put",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class CollectedRequest:
    """Runs a job through vLLM's `add_request`, with a function in the place of its queue's."""

    def __init__(
        self,
        job: Job,
        sink: Sink[Any],
        meter: Meter,
        reader: OutputReader,
        dispatcher: OutputDispatcher,
    ) -> None:
        self._job = job
        self._sink = sink
        self._meter = meter
        self._reader = reader
        self._dispatcher = dispatcher
        params = job.parameters
        self._whole = params.output_kind is RequestOutputKind.FINAL_ONLY
        # No interval holds a text back, and no stop string can cut it.
        self._steady = (params.stream_interval or 1) == 1 and not params.stop
        self._followed: list[str] = []
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, llm: AsyncLLM, options: dict[str, Any]) -> None:
        """Run the job; it is aborted if the wait fails or is cancelled."""
        job = self._job
        prompt = {**job.prompt, "cache_salt": job.cache_salt}
        queue = await llm.add_request(job.id, prompt, job.parameters, **options)
        internal_id = queue.request_id
        self._followed = [internal_id]
        if self._whole:
            self._followed = self._dispatcher.count(
                internal_id, self._meter, self._fail, steady=self._steady
            )
        # vLLM's output processor calls this for every step that has something for the request.
        queue.put = self._put
        if (early := queue.get_nowait()) is not None:
            self._put(early)
        try:
            await self._ended
        except BaseException:
            self._dispatcher.forget(*self._followed)
            await llm.abort(internal_id, internal=True)
            raise

    def _fail(self, error: Exception) -> None:
        self._dispatcher.forget(*self._followed)
        if not self._ended.done():
            self._ended.set_exception(error)

    def _put(self, output: Any) -> None:
        if self._ended.done():
            return
        try:
            if isinstance(output, Exception):
                raise output
            self._meter.add(self._new(output))
            self._sink.take(output)
        except Exception as error:
            self._fail(error)
            return
        if output.finished:
            self._dispatcher.forget(*self._followed)
            self._ended.set_result(None)

    def _new(self, output: Any) -> Progress:
        """The progress of an output, without the tokens of a whole answer that are counted."""
        progress = self._reader.read(output)
        if self._whole:
            return replace(progress, new_tokens=progress.new_tokens - self._meter.tokens)
        return progress
