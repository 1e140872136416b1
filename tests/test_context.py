"""What the end of a request waits for, and what it gives back."""

import asyncio

import pytest

from service.context import internal_context


async def test_a_request_ends_after_the_streams_of_its_cancelled_tasks() -> None:
    context = internal_context("test", 600.0)
    ended_before: list[bool] = []

    async def stream() -> None:
        context.stream_began()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            context.stream_ended()

    streams = [asyncio.create_task(stream()) for _ in range(2)]
    await asyncio.sleep(0)
    context.at_end.callback(lambda: ended_before.extend(each.done() for each in streams))
    for each in streams:
        each.cancel()
    await context.close()
    await asyncio.wait(streams)
    assert ended_before == [True, True]


async def test_what_was_held_is_given_back_if_something_of_it_cannot_be() -> None:
    context = internal_context("test", 600.0)
    given_back: list[int] = []

    def fail() -> None:
        raise RuntimeError("not given back")

    context.at_end.callback(given_back.append, 1)
    context.at_end.callback(fail)
    with pytest.raises(RuntimeError, match="not given back"):
        await context.close()
    assert given_back == [1]
