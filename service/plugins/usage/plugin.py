"""Usage as a plugin: counts each tenant's use as requests end, and answers GET /v1/usage."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Self

from fastapi import APIRouter, Query, Response

from service.context import Ending, RequestContext
from service.errors import InvalidRequest
from service.http.bodies import render_items, with_data
from service.http.json_routes import TheContext, TheRuntime
from service.plugin import Host, Plugin, Runtime
from service.plugins.usage.bodies import UsageList, UsagePeriod
from service.plugins.usage.ledger import Ledger
from service.plugins.usage.settings import UsageSettings
from service.plugins.usage.stores import SECONDS, Period, Question, usage_store

router = APIRouter(tags=["usage"])

_DAYS = 30
_MOST_ROWS = 10_000


class UsagePlugin(Plugin):
    """Counts requests and tokens by tenant; enabled if `usage` names a store."""

    routers = (router,)
    switch = "usage.path or usage.storage"

    @classmethod
    def of(cls, host: Host) -> Self | None:
        settings = host.settings.section(UsageSettings)
        store = usage_store(settings.path, settings.storage)
        if store is None:
            return None
        return cls(Ledger(store, settings.keep_days))

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def lifespan(self, service: Runtime) -> AbstractAsyncContextManager[None]:
        return self.ledger.kept()

    def ended(self, context: RequestContext, ending: Ending) -> None:
        self.ledger.answered(context, ending)


@router.get("/v1/usage", response_model=UsageList)
async def usage(
    runtime: TheRuntime,
    context: TheContext,
    by: Period = "day",
    start: Annotated[int | None, Query(ge=0, le=1 << 40)] = None,
    end: Annotated[int | None, Query(ge=0, le=1 << 40)] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 1000,
) -> Response:
    """Requests and tokens of the caller by hour or day (UTC), model, adapter, route and tier.

    `start` and `end` are seconds since 1970; default the last 30 days.
    """
    ledger = runtime.plugins.get(UsagePlugin).ledger
    until = ledger.now + 1 if end is None else end
    since = max(0, until - _DAYS * SECONDS["day"]) if start is None else start
    if since >= until:
        raise InvalidRequest(f"start: must be before end, got {since} and {until}", param="start")
    question = Question(since, until, by, context.tenant.name, limit + 1)
    rows = await ledger.read(question)
    data = await render_items(UsagePeriod.of(row, by) for row in rows[:limit])
    answer = UsageList(data=[], has_more=len(rows) > limit)
    return Response(with_data(answer, data), media_type="application/json")
