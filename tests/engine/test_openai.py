"""Streams of vLLM through the OpenAI routes."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from service.context import current_context, enter_context, internal_context
from service.errors import DeadlineExceeded
from service.vllm_engine.openai import OpenAISurface

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


def surface_over(stream: AsyncGenerator[str, None]) -> OpenAISurface:
    """A surface whose one handler answers with this stream."""

    async def create_chat_completion(_: Any) -> AsyncGenerator[str, None]:
        return stream

    chat = SimpleNamespace(create_chat_completion=create_chat_completion)
    state: Any = SimpleNamespace(openai_serving_models=SimpleNamespace(), openai_serving_chat=chat)
    return OpenAISurface(state)


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_that_ends_early_closes_what_vllm_streams(fails: bool) -> None:
    closed = []

    async def events() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "data: {}\n\n"
        finally:
            closed.append(True)

    enter_context(internal_context("test", 5.0))
    stream = events()
    answer = await surface_over(stream).chat(CHAT)
    assert not isinstance(answer, dict)
    await anext(answer)
    if fails:
        current_context().stream_failure = DeadlineExceeded("too late")
        with pytest.raises(DeadlineExceeded):
            await anext(answer)
    else:
        await answer.aclose()
    assert closed
