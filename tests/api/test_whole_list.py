"""Long lists of answers."""

import asyncio
from collections.abc import Iterator

from service.api.whole_list import rendered


async def test_others_get_in_between_two_items_of_a_list() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def items() -> Iterator[dict[str, int]]:
        for _ in range(20):
            yield {"turn": turns}

    task = asyncio.create_task(others())
    assert await rendered(items()) == [b'{"turn":%d}' % turn for turn in range(20)]
    task.cancel()
