"""Service tier in OpenAI's answers: named where asked for, and where it is not the default."""

from service.context import RequestContext
from service.tenants.tenant import Tier

_BEGIN = "data: {"


def named_tier(context: RequestContext) -> Tier | None:
    """The tier that the answer names; None where OpenAI's answers name none."""
    named = context.asked_tier is not None or context.tier is not Tier.DEFAULT
    return context.tier if named else None


def with_tier(event: str, context: RequestContext) -> str:
    """An event of a streamed answer, with the tier that it names."""
    tier = named_tier(context)
    if tier is None or not event.startswith(_BEGIN):
        return event
    return f'{_BEGIN}"service_tier":"{tier}",{event.removeprefix(_BEGIN)}'
