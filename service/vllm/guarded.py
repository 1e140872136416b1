"""Outputs of a generation that a guard reads before they are handed on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from service.context.answer_guard import AnswerGuard
from service.engine.protocol import TextSink
from service.generation.held import HeldTexts
from service.vllm.generation import Generation
from service.vllm.patches.call_frame import asks_for_structure

USES = ("calls vllm.outputs:RequestOutput.add",)
"""What of vLLM this module stands on (docs/vllm.md)."""


async def guarded(
    outputs: AsyncGenerator[Any, None], request: Generation, guard: AnswerGuard
) -> AsyncGenerator[Any, None]:
    """Join outputs until the guard has read their text, then yield them with the text it allows.

    Raises what `AnswerGuard.read` raises.
    """
    texts = HeldTexts(
        guard,
        tokens=request.params.logprobs is not None,
        structured=asks_for_structure(request.params),
    )
    held: Any = None
    async with aclosing(outputs):
        async for output in outputs:
            for each in output.outputs:
                texts.add(each.index, each.text, ended=each.finish_reason is not None)
            held = _joined(held, output)
            if texts.ready:
                released = await texts.released()
                for each in held.outputs:
                    each.text = released.get(each.index, "")
                yield held
                held = None


class Inbox:
    """Takes the outputs of a pushed request, so that the engine waits for no guard.

    Its permit goes back once the engine has made the answer, so a guard that needs one itself
    cannot wait for this request. A `whole` answer comes as one output.
    """

    def __init__(self, *, whole: bool) -> None:
        self.restart: Callable[[], None] | None = self._forget if whole else None
        self._whole = whole
        self._held: Any = None
        self._prompt_logprobs: Any = None
        self._came = asyncio.Event()

    def take(self, output: Any) -> TextSink | None:
        # Those of the prompt are the same for all answers, and vLLM tells them with one output.
        self._prompt_logprobs = output.prompt_logprobs or self._prompt_logprobs
        self._held = _joined(self._held, output)
        self._held.prompt_logprobs = self._prompt_logprobs
        self._came.set()
        return None

    async def outputs(
        self, push: Callable[[], Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[Any, None]:
        """Run a push into this inbox and yield its outputs as they come; raises its error."""
        task = asyncio.create_task(push())
        task.add_done_callback(lambda _: self._came.set())
        try:
            while not task.done():
                await self._came.wait()
                self._came.clear()
                if not self._whole and (held := self._taken()) is not None:
                    yield held
            await task
            if (held := self._taken()) is not None:
                yield held
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _taken(self) -> Any:
        held, self._held = self._held, None
        return held

    def _forget(self) -> None:
        self._held = None


def _joined(first: Any, second: Any) -> Any:
    if first is None:
        return second
    first.add(second, aggregate=True)
    return first
