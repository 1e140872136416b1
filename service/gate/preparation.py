"""The stage's threads, which tokenise text off the event loop in fair turns."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from service.context import current_context
from service.gate.gate import Gate
from service.gate.stage import Stage, Turn
from service.settings.preparation import PreparationSettings
from service.together import abreast

Result = TypeVar("Result")

SHORT = 1024
"""Bytes that are tokenised in less than a millisecond; waking a thread would cost as much."""


class Preparation:
    """Tokenises text in turns of a `Stage`: long text in a thread, short text on the event loop."""

    def __init__(self, gate: Gate, settings: PreparationSettings) -> None:
        self._gate = gate
        self._stage = Stage(gate, settings.threads, settings.max_waiting)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="preparation")

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """The result of work on so many bytes. Raises as the work and `Stage.run` do."""
        if size < SHORT and not self._stage.waiting:
            await abreast()
            done = self._stage.do(size, work)
            await abreast()
            return done
        return await self._stage.run(size, lambda turn: self._start(turn, work))

    async def run_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        """Run work as `run` does, for the current request's prompt.

        Raises at once as `Gate.refuse_early`.
        """
        self._gate.refuse_early(current_context())
        return await self.run(size, work)

    def stop(self) -> None:
        """Drop the work that has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, turn: Turn, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        loop = asyncio.get_running_loop()
        if turn.size >= SHORT:
            in_context = copy_context().run  # the work may ask for the request
            return loop.run_in_executor(self._threads, in_context, turn.do, work)
        future: asyncio.Future[Result] = loop.create_future()
        try:
            future.set_result(turn.do(work))
        except Exception as error:
            future.set_exception(error)
        return future
