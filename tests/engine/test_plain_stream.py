"""Events of plain streams beside those that vLLM's generators make of the same outputs."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.exceptions import GenerationError
from vllm.outputs import CompletionOutput, RequestOutput

from service.context import current_context, enter_context, internal_context
from service.tenants.tenant import Tier
from service.vllm_engine.named_tier import with_tier
from service.vllm_engine.plain_chat import PlainChats
from service.vllm_engine.plain_completion import completion_streams
from service.vllm_engine.plain_stream import PlainStream, PlainStreams

Outputs = Sequence[RequestOutput]

SAID = [{"role": "user", "content": "Hi"}]
METADATA = RequestResponseMetadata(request_id="it")


class Client:
    """A client whose engine has answered already; texts alone skip vLLM's processor."""

    vllm_config = SimpleNamespace(speculative_config=None)

    async def push(self, request: Any, sink: PlainStream) -> None:
        for number, output in enumerate(request):
            (said,) = output.outputs
            if number % 2 and not output.finished:
                sink.add(said.text, len(said.token_ids))
                sink.release()
            else:
                sink.take(output)


class Recorder:
    """A writer to a client that takes everything."""

    busy = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.write = self.parts.append
        self.on_free: Callable[[], None] = lambda: None

    async def flush(self) -> None:
        """Everything is taken."""


def handler(kind: Any, **more: Any) -> Any:
    """A handler of vLLM's without an engine."""
    made = object.__new__(kind)
    common = {
        "parser_cls": None,
        "enable_force_include_usage": False,
        "enable_prompt_tokens_details": False,
        "enable_per_request_metrics": False,
        "enable_log_outputs": False,
        "request_logger": None,
        "response_role": "assistant",
        "system_fingerprint": "print",
        "renderer": SimpleNamespace(tokenizer=object()),
        "_include_reasoning_tokens_details": False,
    }
    vars(made).update(common | more)
    return made


async def streams_of(made: Any) -> PlainStreams | None:
    """The plain streams of a handler."""
    client: Any = Client()
    if isinstance(made, OpenAIServingCompletion):
        return await completion_streams(client, made)
    chats = await PlainChats.of(client, made)
    return None if chats is None else chats.streams


async def ours(made: Any, request: Any, outputs: Outputs) -> bytes:
    """The events that a plain stream writes."""
    streams, writer = await streams_of(made), Recorder()
    assert streams is not None
    generation: Any = outputs
    await streams.make(request, generation).write_to(writer)
    return b"".join(writer.parts)


def theirs(made: Any, request: Any, outputs: Outputs) -> AsyncGenerator[str, None]:
    """The events that vLLM's generator makes."""

    async def source() -> AsyncIterator[Any]:
        for output in outputs:
            yield output if isinstance(made, OpenAIServingChat) else (0, output)

    context = current_context()
    if isinstance(made, OpenAIServingChat):
        name = f"chatcmpl-{context.request_id}"
        return made.chat_completion_stream_generator(  # type: ignore[no-any-return]
            request, source(), name, context.model, [], object(), METADATA
        )
    name = f"cmpl-{context.request_id}"
    return made.completion_stream_generator(  # type: ignore[no-any-return]
        request, [], source(), name, 0, context.model, 1, object(), METADATA
    )


def outputs_of(
    texts: Sequence[tuple[str, int]], reason: str, stop_reason: int | str | None, cached: int
) -> Outputs:
    """The outputs of a stream with these texts of so many tokens each."""
    made = []
    for number, (text, tokens) in enumerate(texts, 1):
        said = CompletionOutput(0, text, [7] * tokens, None, None)
        finished = number == len(texts)
        if finished:
            said.finish_reason, said.stop_reason = reason, stop_reason
        counts = {"num_cached_tokens": cached, "num_cache_creation_tokens": 3 - cached}
        made.append(RequestOutput("it", "Hi", [1, 2, 3], None, [said], finished, **counts))
    return made


texts = st.text() | st.sampled_from(["", '"\\\n', "\x00\u2028"])
outputs = st.builds(
    lambda before, last, *end: outputs_of([*before, last], *end),
    st.lists(st.tuples(texts, st.integers(1, 3))),
    st.tuples(texts, st.integers(0, 3)),
    st.sampled_from(["stop", "length", "abort", "repetition"]),
    st.none() | st.integers(0, 9) | st.text(),
    st.integers(0, 3),
)
options = st.sampled_from([None, {"include_usage": False}, {"include_usage": True}])


def timeless(events: bytes) -> bytes:
    """The events without the time at which they were made."""
    return re.sub(rb'"created":\d+', b'"created":0', events)


@given(
    outputs=outputs,
    chat=st.booleans(),
    stream_options=options,
    details=st.booleans(),
    flex=st.booleans(),
    name=st.text(min_size=1),
    goes_on=st.booleans(),
)
def test_a_plain_stream_has_the_bytes_of_vllms_generator(
    outputs: Outputs,
    chat: bool,
    stream_options: dict[str, bool] | None,
    details: bool,
    flex: bool,
    name: str,
    goes_on: bool,
) -> None:
    context = internal_context("it", 60.0)
    context.model, context.tier = name, Tier.FLEX if flex else Tier.DEFAULT
    body: dict[str, Any] = {"stream": True, "stream_options": stream_options}
    made, request = handler(OpenAIServingCompletion), None
    if chat:
        made = handler(OpenAIServingChat)
        body |= {"messages": [*SAID, {"role": "user", "content": "!"}]}
        request = ChatCompletionRequest(**body, add_generation_prompt=not goes_on)
    else:
        request = CompletionRequest(**body, prompt="Hi")
    made.enable_prompt_tokens_details = details

    async def both() -> tuple[bytes, bytes]:
        enter_context(context)
        wanted = [
            with_tier(each, context) async for each in theirs(made, request, deepcopy(outputs))
        ]
        return "".join(wanted).encode(), await ours(made, request, outputs)

    wanted, got = asyncio.run(both())
    assert timeless(got) == timeless(wanted)


@pytest.mark.parametrize("kind", [OpenAIServingChat, OpenAIServingCompletion])
@pytest.mark.parametrize("more", ["enable_force_include_usage", "enable_per_request_metrics"])
async def test_a_handler_whose_events_hold_more_has_no_plain_streams(kind: Any, more: str) -> None:
    assert await streams_of(handler(kind)) is not None
    assert await streams_of(handler(kind, **{more: True})) is None


async def test_a_chat_with_a_parser_has_no_plain_streams() -> None:
    assert await streams_of(handler(OpenAIServingChat, parser_cls=object())) is None


async def test_an_error_of_the_engine_ends_a_plain_stream() -> None:
    enter_context(internal_context("it", 60.0))
    outputs = outputs_of([("a", 1), ("b", 1)], "error", None, 0)
    request = CompletionRequest(prompt="Hi", stream=True)
    with pytest.raises(GenerationError):
        await ours(handler(OpenAIServingCompletion), request, outputs)
