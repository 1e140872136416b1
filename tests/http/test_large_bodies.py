"""Large bodies and the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from service.context import enter_context, internal_context
from service.http.json_routes import offload_if_large
from service.tenants.tenant import SERVICE


async def large(tenant: str, work: Callable[[], None]) -> None:
    """Work on a large body of a tenant."""
    context = internal_context("large", 60)
    context.tenant = replace(SERVICE, name=tenant)
    enter_context(context)
    await offload_if_large(1 << 20, work)


async def test_one_large_body_is_read_at_a_time_and_a_small_one_at_once() -> None:
    running = most = 0

    def read() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    begun = [asyncio.create_task(large(tenant, read)) for tenant in "ababa"]
    await asyncio.sleep(0)
    assert await offload_if_large(100, lambda: "small") == "small"
    assert not any(task.done() for task in begun)
    await asyncio.gather(*begun)
    assert most == 1


async def test_the_large_bodies_of_a_tenant_delay_anothers_by_one() -> None:
    may_begin, order = threading.Event(), list[str]()

    def read(tenant: str) -> None:
        may_begin.wait()
        order.append(tenant)

    begun = [asyncio.create_task(large(tenant, partial(read, tenant))) for tenant in "aaaaaab"]
    await asyncio.sleep(0)
    may_begin.set()
    await asyncio.gather(*begun)
    assert order.index("b") <= 2
