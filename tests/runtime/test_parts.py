"""Plugins of a service: which are asked, in which order, and what an error of one costs."""

import asyncio
from collections.abc import Mapping

import pytest

from loadtests.processes import PATIENCE_S
from service.context import Ending, RequestContext, internal_context, internal_request
from service.engine.contract import Job, Output, Sampling, Sink
from service.errors import Forbidden
from service.generation.fold import Fold
from service.runtime.parts import Plugin, Plugins, Runtime, Served
from tests.live_service import LiveService


class Silent(Plugin):
    """Overrides nothing."""


class Broken(Plugin):
    """Fails wherever it is asked after an answer is due."""

    def headers(self, context: RequestContext, status: int) -> Mapping[str, str]:
        raise ValueError("headers")

    def ended(self, context: RequestContext, ending: Ending) -> None:
        raise ValueError("ended")


class Counting(Plugin):
    """Counts what it is told, and refuses whom it does not like."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def accept(self, request: Served) -> None:
        if request.body.get("bad"):
            raise Forbidden("no", code="no")

    def headers(self, context: RequestContext, status: int) -> Mapping[str, str]:
        return {"x-status": str(status)}

    def ended(self, context: RequestContext, ending: Ending) -> None:
        self.seen.append(ending.outcome)


def served(body: Mapping[str, object], runtime: Runtime) -> Served:
    return Served(internal_context("test", 5.0), runtime, lambda: body)


def test_a_plugin_that_fails_stops_no_other() -> None:
    plugins = Plugins([Broken(), counting := Counting(), Silent()])
    context = internal_context("test", 5.0)
    assert plugins.headers(context, 200) == {"x-status": "200"}
    plugins.ended(context, Ending("ok", 200))
    assert counting.seen == ["ok"]


async def test_a_plugin_refuses_a_request() -> None:
    plugins = Plugins([Silent(), Counting()])
    with LiveService() as live:
        runtime = live.app.state.runtime
        await plugins.accept(served({}, runtime))
        with pytest.raises(Forbidden):
            await plugins.accept(served({"bad": True}, runtime))


def test_a_plugin_is_found_by_its_type() -> None:
    plugins = Plugins([counting := Counting()])
    assert plugins.get(Counting) is counting
    assert plugins.has(Counting)
    assert not plugins.has(Silent)
    with pytest.raises(LookupError, match="Silent is off"):
        plugins.get(Silent)


async def test_a_plugin_stands_between_the_engine_and_the_answer() -> None:
    class Seeing(Plugin):
        """Sees the outputs of the engine."""

        def __init__(self) -> None:
            self.texts: list[str] = []

        def wrap(self, request: Served, job: Job, sink: Sink) -> Sink:
            return Seen(sink, self.texts)

    plugins = Plugins([seeing := Seeing()])
    with LiveService() as live:
        model = live.app.state.runtime.base.engine

        async def ask() -> str:
            async with internal_request("test", PATIENCE_S) as context:
                await plugins.accept(Served(context, live.app.state.runtime, dict))
                await model.run(Job(range(7), Sampling(5, seed=1)), fold := Fold())
            return fold.whole()[0].text

        text = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(ask(), live.status.loop)  # type: ignore[arg-type]
        )
    assert text
    assert "".join(seeing.texts) == text


class Seen:
    """Keeps the texts of outputs, and hands these on."""

    restart = None

    def __init__(self, sink: Sink, texts: list[str]) -> None:
        self._sink = sink
        self._texts = texts

    def take(self, output: Output) -> None:
        self._texts += [part.text for part in output.parts]
        self._sink.take(output)
