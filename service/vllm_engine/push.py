"""Generations whose outputs are handed on in the engine's own steps."""

import asyncio
from typing import Any, Protocol

from vllm.outputs import RequestOutput

from service.errors import ServiceError
from service.gate.meter import Meter
from service.vllm_engine.generation import Generation
from service.vllm_engine.steps import Steps


class Sink(Protocol):
    """Takes the outputs of one stream, or the text alone of those that are nothing else.

    Text waits for `release`.
    """

    @property
    def follows(self) -> bool:
        """True once text alone will do."""

    def take(self, output: RequestOutput) -> None: ...

    def add(self, text: str, tokens: int) -> None: ...

    def release(self) -> None: ...


class Push:
    """Pushes one generation into a sink; ends with the error of either."""

    def __init__(self, request: Generation, sink: Sink, steps: Steps) -> None:
        self.demand = request.demand
        self.start = request.start
        self.progress = request.progress
        self._request = request
        self._sink = sink
        self._steps = steps
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def explain(self, error: Exception) -> ServiceError | None:
        return self._request.explain(error)

    async def push(self, meter: Meter) -> None:
        queue = await self._request.add()
        internal_id = queue.request_id

        def put(output: Any) -> None:
            if self._ended.done():
                return
            try:
                if isinstance(output, Exception):
                    raise output
                meter.add(self.progress(output))
                self._sink.take(output)
            except Exception as error:
                self.fail(error)
                return
            if output.finished:
                self._ended.set_result(None)
            elif self._sink.follows and self._request.steady:
                self._steps.follow(internal_id, meter, self)

        # vLLM's output processor calls this for every step that has something for the request.
        queue.put = put
        if (early := queue.get_nowait()) is not None:
            put(early)
        try:
            await self._ended
        except BaseException:
            await self._request.abort(internal_id)
            raise
        finally:
            self._steps.forget(internal_id)

    def add(self, text: str, tokens: int) -> None:
        if not self._ended.done():
            self._sink.add(text, tokens)

    def release(self) -> None:
        if not self._ended.done():
            self._sink.release()

    def fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
