"""Where a request's time went."""

from service.api.schemas.base import TimingBody
from service.context import RequestContext


def timing(context: RequestContext) -> TimingBody:
    """The request's times so far, in milliseconds."""
    first = context.first_token_seconds
    return TimingBody(
        queue_ms=round(context.queue_seconds * 1000, 3),
        ttft_ms=None if first is None else round(first * 1000, 3),
        total_ms=round(context.elapsed() * 1000, 3),
    )
