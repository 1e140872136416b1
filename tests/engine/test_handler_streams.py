"""Streams of vLLM's handlers that fail, as their routes tell it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

import pytest
from service.vllm.answers import answered
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionStreamResponse
from vllm.entrypoints.openai.responses.protocol import (
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponsesRequest,
    ResponsesResponse,
)
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.sampling_params import SamplingParams

from service.api.routes.responses import _Numbered
from service.context import current_context, enter_context, internal_context
from service.errors import DeadlineExceeded, InvalidRequest, QueueFull, ServiceError
from service.vllm import handlers
from service.vllm.patches import messages

CHUNK = {
    **{"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1, "model": "m"},
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
}
ERROR = {"message": "stop: too odd", "type": "BadRequestError", "param": "stop", "code": 400}


OF_OBJECTS = hasattr(AnthropicServingMessages, "chat_completion_stream_generator_raw")
"""True where vLLM makes messages of a chat's chunks before they are events."""


def chunk_of(made: dict[str, Any]) -> Any:
    """A chunk or an error, as the installed vLLM makes messages of it."""
    if not OF_OBJECTS:
        return f"data: {json.dumps(made)}\n\n"
    kind: Any = ErrorResponse if "error" in made else ChatCompletionStreamResponse
    return kind.model_validate(made)


def chunks_then(*last: Any) -> tuple[AsyncGenerator[Any, None], list[bool]]:
    """A chat's chunks, and whether they were closed."""
    closed: list[bool] = []

    async def chunks() -> AsyncGenerator[Any, None]:
        try:
            for text in ("", "a", "b"):
                CHUNK["choices"][0]["delta"]["content"] = text  # type: ignore[index]
                yield chunk_of(CHUNK)
            for chunk in last:
                yield chunk
        finally:
            closed.append(True)

    return chunks(), closed


def message_events(chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    async def convert(source: AsyncGenerator[Any, None]) -> AsyncGenerator[str, None]:
        made: Any = AnthropicServingMessages.message_stream_converter
        async for event in made(None, source):
            yield event

    return handlers._message_events(messages._streams(convert)(chunks))


async def names(events: AsyncIterable[bytes], into: list[str]) -> None:
    """Read events to their end, and put their names into a list as they come."""
    async for event in events:
        into.append(event.decode().partition("\n")[0].removeprefix("event: "))


@pytest.mark.parametrize("kept", [None, DeadlineExceeded("too late")])
async def test_the_error_of_a_chat_ends_its_message(kept: ServiceError | None) -> None:
    enter_context(internal_context("test", 600.0))
    chunks, closed = chunks_then(chunk_of({"error": ERROR}))
    read: list[str] = []
    current_context().stream_failure = None
    events = message_events(chunks)
    await anext(events)
    current_context().stream_failure = kept
    with pytest.raises(InvalidRequest if kept is None else DeadlineExceeded) as failed:
        await names(events, read)
    assert failed.value.message == ("stop: too odd" if kept is None else "too late")
    assert "error" not in read
    assert closed


async def test_a_message_has_the_id_of_its_request_and_is_closed_with_its_reader() -> None:
    enter_context(internal_context("test", 600.0))
    chunks, closed = chunks_then()
    events = message_events(chunks)
    first = json.loads((await anext(events)).decode().splitlines()[1].removeprefix("data: "))
    assert first["message"]["id"] == "msg_test"
    await events.aclose()
    assert closed


async def test_a_request_that_is_cancelled_has_no_answer() -> None:
    enter_context(internal_context("test", 600.0))

    async def handler() -> ErrorResponse:
        """As vLLM's handlers do."""
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
        return ErrorResponse(error=ErrorInfo(**ERROR))

    task = asyncio.create_task(answered(handler()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await answered(handler())


def response(status: Any) -> ResponsesResponse:
    request = ResponsesRequest(model="m", input="Hi")
    return ResponsesResponse.from_request(
        request, SamplingParams(), "m", 1, output=[], status=status
    )


async def response_events(*last: Any) -> AsyncGenerator[Any, None]:
    for number in range(2):
        yield ResponseCreatedEvent(
            type="response.created", sequence_number=number, response=response("in_progress")
        )
    for event in last:
        if isinstance(event, ServiceError):
            raise event
        yield event


@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_the_last_event_of_a_response_has_its_status(status: str) -> None:
    enter_context(internal_context("test", 600.0))
    done = ResponseCompletedEvent(
        type="response.completed", sequence_number=2, response=response(status)
    )
    events = [event async for event in handlers._response_events(response_events(done))]
    name, data = events[-1].decode().splitlines()[:2]
    assert name == f"event: response.{status}"
    assert json.loads(data.removeprefix("data: "))["type"] == f"response.{status}"


async def test_a_response_that_is_refused_has_no_events() -> None:
    enter_context(internal_context("test", 600.0))
    with pytest.raises(QueueFull):
        await anext(handlers._response_events(response_events(QueueFull("full"))))


async def test_an_error_within_a_response_has_the_next_number() -> None:
    enter_context(internal_context("test", 600.0))
    third = ResponseCreatedEvent(
        type="response.created", sequence_number=2, response=response("in_progress")
    )
    late = DeadlineExceeded("too late")
    numbered = _Numbered(handlers._response_events(response_events(third, late)))
    read: list[str] = []
    with pytest.raises(DeadlineExceeded):
        await names(numbered.events(), read)
    assert len(read) == 3
    name, data = numbered.error_event(late.body("id")).decode().splitlines()[:2]
    told = json.loads(data.removeprefix("data: "))
    assert (name, told["type"], told["sequence_number"]) == ("event: error", "error", 3)
    assert told["error"] == late.body("id")["error"]
    assert (told["code"], told["message"]) == ("deadline_exceeded", "too late")
