"""OpenAI's batches: files of requests that are answered in the background."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.common.error_messages import quote
from service.errors import InvalidRequest
from service.http.json_routes import JsonRoute, TheContext
from service.http.streams import page
from service.plugins.batches.batch_bodies import BatchBody, BatchList, BatchRequest, endpoints
from service.plugins.batches.batches import TheBatches
from service.plugins.batches.records import Batch, Page
from service.tenants.tenant import Tier

router = APIRouter(route_class=JsonRoute, tags=["batches"])
bodiless = APIRouter(tags=["batches"])
"""For a POST without a body, which a `JsonRoute` would refuse."""

_WINDOW = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MOST = 100


@router.post("/v1/batches")
async def create_batch(body: BatchRequest, batches: TheBatches, context: TheContext) -> BatchBody:
    """Answer the requests of a file, as flex requests of the caller."""
    if Tier.FLEX not in context.tenant.tiers:
        raise InvalidRequest(
            "A batch is served in the tier flex, which is not in the `service_tiers` of this key's "
            "tenant."
        )
    known = endpoints()
    if body.endpoint not in known:
        message = f"endpoint: must be one of {', '.join(known)}, got {quote(body.endpoint)}"
        raise InvalidRequest(message, param="endpoint")
    settings, now = batches.settings, batches.now
    keep = settings.keep_days * _SECONDS["d"]
    if body.output_expires_after is not None:
        keep = min(keep, body.output_expires_after.seconds)
    batch = Batch(
        id="",
        tenant=context.tenant.name,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        created_at=now,
        expires_at=now + _window(body.completion_window, settings.max_window_h),
        keep_seconds=keep,
        metadata=body.metadata,
    )
    created = await batches.store.create(batch)
    batches.wake()
    return BatchBody.of(created)


@router.get("/v1/batches", response_model=BatchList)
async def list_batches(
    batches: TheBatches,
    context: TheContext,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 20,
) -> Response:
    """The caller's batches, the newest first."""
    found = await batches.store.batches(context.tenant.name, Page(after, limit))
    return await page(BatchList, BatchBody.of, *found)


@router.get("/v1/batches/{batch_id}")
async def show_batch(batch_id: str, batches: TheBatches, context: TheContext) -> BatchBody:
    """One of these batches."""
    return BatchBody.of(await batches.store.batch(context.tenant.name, batch_id))


@bodiless.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, batches: TheBatches, context: TheContext) -> BatchBody:
    """End one of these batches; what is answered by then is kept."""
    batch = await batches.store.cancel(context.tenant.name, batch_id)
    batches.wake()
    return BatchBody.of(batch)


def _window(text: str, max_hours: int) -> int:
    """Seconds of a completion window."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= max_hours * _SECONDS["h"]:
        message = (
            "completion_window: must be a number and s, m, h or d, at most "
            f"{max_hours}h, got {quote(text)}"
        )
        raise InvalidRequest(message, param="completion_window")
    return seconds
