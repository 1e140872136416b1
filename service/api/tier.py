"""Choice of the service tier that a request is served in."""

from typing import Any

from service.context import RequestContext
from service.errors import InvalidRequest
from service.quoting import quote
from service.tenants.tenant import Tier

HEADER = "X-Service-Tier"
FIELD = "service_tier"

_AUTO = "auto"
_AS_DEFAULT = ("priority", "scale", "standard_only")
"""OpenAI's tiers above the default one, which is served, and Anthropic's name of the default."""


def choose_tier(context: RequestContext, header: str | None, field: Any) -> None:
    """Give a request the tier that its body names, else its header, else its tenant.

    Raises InvalidRequest for a value that is no tier, and for one that the tenant may not use.
    """
    name, place = (header, HEADER) if field is None else (field, FIELD)
    allowed = context.tenant.tiers
    if name is None or name == _AUTO:
        tier = allowed[0]
    elif name in _AS_DEFAULT:
        tier = Tier.DEFAULT
    elif isinstance(name, str) and name in Tier.__members__.values():
        tier = Tier(name)
    else:
        known = ", ".join((_AUTO, *Tier))
        raise InvalidRequest(f"{place}: must be one of {known}, got {quote(name)}", param=place)
    if tier not in allowed:
        own = ", ".join(allowed)
        message = f"{place}: this key may use {own}, got {quote(name)}"
        raise InvalidRequest(message, param=place)
    context.asked_tier = name
    if tier is Tier.FLEX:
        context.become_flex()
