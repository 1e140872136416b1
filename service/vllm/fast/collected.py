"""Generations with the states of vLLM's client, handed on in the engine's own steps."""

import asyncio
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from service.engine.contract import Job, Sink
from service.vllm.outputs import OutputReader

USES = (
    "calls vllm.v1.engine.async_llm:AsyncLLM.add_request",
    "calls vllm.v1.engine.output_processor:RequestOutputCollector.get_nowait",
    "replaces vllm.v1.engine.output_processor:RequestOutputCollector.put",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


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
