"""Requests as telemetry sees them at their end."""

from typing import Any

from service.context import RequestContext, internal_context
from service.tenants.tenant import Tenant


def ended_request(*, tenant: str = "acme", **facts: Any) -> RequestContext:
    """A request of `/v1/generate` to `m`, with these facts in place of its own."""
    context = internal_context("r1", 1.0)
    context.route, context.model, context.tenant = "/v1/generate", "m", Tenant(tenant)
    for name, value in facts.items():
        setattr(context, name, value)
    return context
