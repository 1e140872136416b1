"""Plugins of a service: which are asked, in which order, and what an error of one costs."""

from collections.abc import Mapping

import pytest

from service.context import Ending, RequestContext, internal_context
from service.errors import Forbidden
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
