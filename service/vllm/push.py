"""Generations whose outputs are handed on in the engine's own steps."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from vllm.outputs import RequestOutput

from service.engine.contract import Progress
from service.engine.protocol import TextSink
from service.errors import ServiceError
from service.gate.meter import Meter
from service.together import abreast
from service.vllm.fast.dispatcher import Steps
from service.vllm.generation import Generation


class Sink(Protocol):
    """Takes the outputs of one stream."""

    def take(self, output: RequestOutput) -> TextSink | None:
        """Take an output; returns the sink for later outputs of text alone, None to get outputs."""

    @property
    def restart(self) -> Callable[[], None] | None:
        """Forgets all outputs, to take them again from the first; None if the sink sends them."""


class Last:
    """Keeps the last output."""

    def __init__(self) -> None:
        self.output: RequestOutput | None = None

    def take(self, output: RequestOutput) -> TextSink | None:
        self.output = output
        return None

    def restart(self) -> None:
        self.output = None


class Run:
    """Runs one generation into a sink; ends with the error of either."""

    def __init__(self, request: Generation, sink: Sink) -> None:
        self.demand = replace(request.demand, restartable=sink.restart is not None)
        self._request = request
        self._sink = sink

    def explain(self, error: Exception) -> ServiceError | None:
        return self._request.explain(error)

    def restart(self) -> None:
        assert self._sink.restart is not None
        self._request.renew()
        self._sink.restart()


class Push(Run):
    """Runs a generation with the states of vLLM's client."""

    def __init__(self, request: Generation, sink: Sink, steps: Steps) -> None:
        super().__init__(request, sink)
        self._steps = steps

    async def push(self, meter: Meter) -> None:
        await abreast()
        queue = await self._request.add()
        internal_id = queue.request_id
        followed = [internal_id]
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail(error: Exception) -> None:
            self._steps.forget(*followed)
            if not ended.done():
                ended.set_exception(error)

        def put(output: Any) -> None:
            if ended.done():
                return
            try:
                if isinstance(output, Exception):
                    raise output
                meter.add(self._new(output, meter))
                self._sink.take(output)
            except Exception as error:
                fail(error)
                return
            if output.finished:
                self._steps.forget(*followed)
                ended.set_result(None)

        if self._request.whole:
            steady = self._request.steady
            followed = self._steps.count(internal_id, meter, fail, steady=steady)
        # vLLM's output processor calls this for every step that has something for the request.
        queue.put = put
        if (early := queue.get_nowait()) is not None:
            put(early)
        try:
            await ended
        except BaseException:
            self._steps.forget(*followed)
            await self._request.abort(internal_id)
            raise

    def _new(self, output: RequestOutput, meter: Meter) -> Progress:
        """The progress of an output, without the tokens of a whole answer that are counted."""
        progress = self._request.progress(output)
        if self._request.whole:
            return replace(progress, new_tokens=progress.new_tokens - meter.tokens)
        return progress
