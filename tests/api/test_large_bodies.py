"""Large bodies and the event loop."""

import asyncio
import time

from service.api.json_body import by_size


async def test_one_large_body_is_read_at_a_time_and_a_small_one_at_once() -> None:
    running = most = 0

    def read() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1

    large = [asyncio.create_task(by_size(1 << 20, read)) for _ in range(5)]
    await asyncio.sleep(0)
    assert await by_size(100, lambda: "small") == "small"
    assert not any(task.done() for task in large)
    await asyncio.gather(*large)
    assert most == 1
