"""GET /v1/usage: what the caller used."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.errors import InvalidRequest
from service.http.json_routes import TheContext, TheRuntime
from service.http.streams import rendered, with_data
from service.plugins.usage.bodies import UsageList, UsagePeriod
from service.plugins.usage.row import SECONDS, Period, Question

router = APIRouter(tags=["usage"])

_DAYS = 30
_MOST_ROWS = 10_000


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
    assert runtime.usage is not None
    until = runtime.usage.now + 1 if end is None else end
    since = max(0, until - _DAYS * SECONDS["day"]) if start is None else start
    if since >= until:
        raise InvalidRequest(f"start: must be before end, got {since} and {until}", param="start")
    question = Question(since, until, by, context.tenant.name, limit + 1)
    rows = await runtime.usage.read(question)
    data = await rendered(UsagePeriod.of(row, by) for row in rows[:limit])
    answer = UsageList(data=[], has_more=len(rows) > limit)
    return Response(with_data(answer, data), media_type="application/json")
