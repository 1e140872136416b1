"""Streams and quotas that the end of a request closes and gives back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from service.context import internal_context


async def counting(failure: Exception | None = None) -> AsyncGenerator[int, None]:
    try:
        yield 1
        await asyncio.sleep(30)
    finally:
        if failure:
            raise failure


async def test_a_stream_that_runs_in_a_task_of_its_own_is_waited_for_not_closed() -> None:
    context = internal_context("test", 600.0)
    ended_before: list[bool] = []

    async def counted() -> AsyncGenerator[int, None]:
        context.stream_began()
        try:
            async with aclosing(counting()) as numbers:
                async for number in numbers:
                    yield number
        finally:
            await asyncio.sleep(0.01)
            context.stream_ended()

    stream = counted()
    context.streams.append(stream)
    await anext(stream)
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    context.at_end.callback(lambda: ended_before.append(reader.done()))
    reader.cancel()
    await context.close()
    assert ended_before == [True]


async def test_a_stream_that_fails_to_close_says_so_and_what_was_held_is_given_back() -> None:
    context, stream = internal_context("test", 600.0), counting(RuntimeError("not closed"))
    given_back: list[int] = []
    context.at_end.callback(given_back.append, 1)
    context.streams.append(stream)
    await anext(stream)
    with pytest.raises(RuntimeError, match="not closed"):
        await context.close()
    assert given_back == [1]
