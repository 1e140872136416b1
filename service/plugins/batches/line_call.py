"""Call of one line of a batch, as the request that it describes."""

from dataclasses import dataclass

from pydantic_core import to_json

from service.errors import InvalidRequest
from service.plugins.batches.lines import Line, answer_line, request_name
from service.plugins.batches.records import Answer, Batch
from service.runtime.parts import Call, Reply
from service.tenants.tenant import Tenant

_PASSING = (429, 503, 504)
"""Statuses of refusals that are temporary, if they come with Retry-After."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """Temporary refusal of a line: its batch sends no line for so many seconds."""

    seconds: float
    status: int


async def ask(
    call: Call, tenant: Tenant, batch: Batch, line: Line, timeout_s: float
) -> Answer | NotNow:
    """Answer a line within `timeout_s`, or within the longest time that a request may have."""
    name = request_name(batch.id, line.number)
    if isinstance(line.body, InvalidRequest):
        reply = Reply(line.body.status, to_json(line.body.body(name)))
    else:
        reply = await call(tenant, batch.endpoint, line.body, request_id=name, timeout_s=timeout_s)
    if reply.retry_after is not None and reply.status in _PASSING:
        return NotNow(reply.retry_after, reply.status)
    rendered = answer_line(batch.id, line, reply.status, reply.body)
    return Answer(line.number, reply.status >= 400, rendered)
