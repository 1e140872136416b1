"""OpenAI's routes for one model, asked without a service around it."""

import asyncio
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from service.adapters.choice import ChosenModel
from service.context import current_context, enter_context, internal_context
from service.generation.served_model import ServedModel
from service.http.exchange import PushedStream
from service.openai.body import read_body
from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.routes.openai import chat_completions, completions
from service.runtime.parts import Plugins
from service.settings.limits import LimitSettings

LIMITS = LimitSettings(n=8, unknown_fields="refuse")


def _runtime_of(model: ServedModel) -> Any:
    """The parts of the service that a route uses."""
    chosen = ChosenModel("tiny", None)
    return SimpleNamespace(
        models=SimpleNamespace(choose=lambda name, context: chosen),
        base=SimpleNamespace(engine=model),
        settings=SimpleNamespace(limits=LIMITS),
        plugins=Plugins(),
    )


class Recorder:
    """A writer to a client that pauses after each of the first `held` parts."""

    def __init__(self, held: int = 0) -> None:
        self.parts: list[bytes] = []
        self.on_free: Callable[[], None] = lambda: None
        self.free = asyncio.Event()
        self.free.set()
        self._held = held

    @property
    def busy(self) -> bool:
        return not self.free.is_set()

    def write(self, part: bytes) -> None:
        self.parts.append(part)
        if self._held:
            self.free.clear()
            asyncio.get_running_loop().call_later(0.05, self._free)

    async def flush(self) -> None:
        while self.busy:
            await self.free.wait()

    def _free(self) -> None:
        self.free.set()
        self.on_free()


async def ask(model: ServedModel, body: dict[str, Any], writer: Recorder | None = None) -> bytes:
    """The JSON of an answer, or its events, as a part of the current request.

    Raises ServiceError where a route does.
    """
    body, most = {"model": "tiny"} | body, model.model.max_model_len
    runtime, context = _runtime_of(model), current_context()
    if "messages" in body:
        chat, _ = read_body(ChatBody, body, LIMITS, most)
        answer = await chat_completions(chat, runtime, context)
    else:
        completion, _ = read_body(CompletionBody, body, LIMITS, most)
        answer = await completions(completion, runtime, context)
    if not isinstance(answer, PushedStream):
        return bytes(answer.body)
    writer = writer or Recorder()
    await answer._write_to(writer)
    return b"".join(writer.parts)


async def asked(model: ServedModel, body: dict[str, Any], writer: Recorder | None = None) -> bytes:
    """The same as a request of its own, without the time of the answer's creation."""
    context = internal_context("plain", 600.0)
    context.model = "tiny"
    enter_context(context)
    return timeless(await ask(model, body, writer))


def timeless(answer: bytes) -> bytes:
    """An answer without the time of its creation."""
    return re.sub(rb'"created":\d+', b'"created":0', answer)
