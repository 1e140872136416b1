"""Requests for tests."""

import math

from service.admission.queued_request import QueuedRequest


def request(
    tenant: str = "a",
    *,
    prompt: int = 10,
    most: int = 10,
    slots: int = 1,
    weight: float = 1.0,
    deadline: float = math.inf,
    max_wait: float = math.inf,
    followers: int = 0,
    follows: bool = False,
    background: bool = False,
    restartable: bool = False,
    again: bool = False,
) -> QueuedRequest:
    """A request that arrives at 0 and, unless told otherwise, waits for ever."""
    return QueuedRequest(
        tenant=tenant,
        prompt_tokens=prompt,
        max_output_tokens=most,
        arrival=0.0,
        deadline=deadline,
        max_wait=max_wait,
        slots=slots,
        weight=weight,
        followers=followers,
        follows=follows,
        background=background,
        restartable=restartable,
        again=again,
    )
