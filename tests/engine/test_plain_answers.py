"""Plain answers, streamed and whole, beside those that vLLM makes of the same outputs."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service.vllm.fast.plain.answers import PlainAnswers, PlainKind
from service.vllm.fast.plain.chat import PlainChats
from service.vllm.fast.plain.completion import PlainCompletions
from service.vllm.named_tier import named_tier, with_tier
from starlette.responses import JSONResponse
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.exceptions import GenerationError
from vllm.outputs import CompletionOutput, RequestOutput

from service.context import current_context, enter_context, internal_context
from service.tenants.tenant import Tier

Outputs = Sequence[RequestOutput]

SAID = [{"role": "user", "content": "Hi"}]
METADATA = RequestResponseMetadata(request_id="it")
NO_MORE: dict[str, Any] = {
    "speculative_config": None,
    "kv_transfer_config": None,
    "ec_transfer_config": None,
}


class Client:
    """A client whose engine has answered already; texts alone skip vLLM's processor."""

    errored = False

    def __init__(self, **more: Any) -> None:
        aux = SimpleNamespace(enable_return_routed_experts=False)
        self.vllm_config = SimpleNamespace(**NO_MORE | {"aux_output_config": aux} | more)

    async def push(self, request: Any, sink: Any) -> None:
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
        "enable_auto_tools": False,
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


async def answers_of(made: Any, **config: Any) -> PlainAnswers | None:
    """The plain answers of a handler, and of an engine with this configuration."""
    client: Any = Client(**config)
    completes = isinstance(made, OpenAIServingCompletion)
    kind: PlainKind = PlainCompletions(made) if completes else PlainChats(made)
    return await PlainAnswers.of(client, kind)


async def ours(made: Any, request: Any, outputs: Outputs) -> bytes:
    """The events that a plain stream writes, or the JSON of the answer."""
    answers, writer = await answers_of(made), Recorder()
    assert answers is not None
    generation: Any = outputs
    if not request.stream:
        return await answers.wholes.answer(generation)
    await answers.streams.make(request, generation).write_to(writer)
    return b"".join(writer.parts)


def theirs(made: Any, request: Any, outputs: Outputs) -> AsyncGenerator[str, None]:
    """The events that vLLM's generator makes."""

    async def source() -> AsyncIterator[Any]:
        for output in outputs:
            yield output if isinstance(made, OpenAIServingChat) else (0, output)

    name, model = names(made)
    if isinstance(made, OpenAIServingChat):
        return made.chat_completion_stream_generator(  # type: ignore[no-any-return]
            request, source(), name, model, [], object(), METADATA
        )
    return made.completion_stream_generator(  # type: ignore[no-any-return]
        request, [], source(), name, 0, model, 1, object(), METADATA
    )


async def their_whole(made: Any, request: Any, output: RequestOutput) -> bytes:
    """The JSON of the answer that vLLM makes, with the tier that the service adds."""
    name, model = names(made)
    if isinstance(made, OpenAIServingChat):

        async def source() -> AsyncIterator[RequestOutput]:
            yield output

        answer = await made.chat_completion_full_generator(
            request, source(), name, model, [], object(), METADATA
        )
    else:
        answer = made.request_output_to_completion_response(
            [output], request, name, 0, model, object(), METADATA
        )
    tier = {"service_tier": named_tier(current_context())}
    return bytes(JSONResponse(answer.model_dump() | tier).body)


def names(made: Any) -> tuple[str, str]:
    """The id and the model of the current request's answer."""
    context = current_context()
    prefix = "chatcmpl-" if isinstance(made, OpenAIServingChat) else "cmpl-"
    return f"{prefix}{context.request_id}", context.model


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
ends = (
    st.sampled_from(["stop", "length", "abort", "repetition"]),
    st.none() | st.integers(0, 9) | st.text(),
    st.integers(0, 3),
)
outputs = st.builds(
    lambda before, last, *end: outputs_of([*before, last], *end),
    st.lists(st.tuples(texts, st.integers(1, 3))),
    st.tuples(texts, st.integers(0, 3)),
    *ends,
)
whole_outputs = st.builds(
    lambda text, *end: outputs_of([text], *end), st.tuples(texts, st.integers(0, 99)), *ends
)
options = st.sampled_from([None, {"include_usage": False}, {"include_usage": True}])


EVENTS = re.compile(rb".*?\n\n", re.DOTALL)


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
    assert b'"finish_reason":"' in got
    if b'"finish_reason":"' not in wanted:
        # vLLM tells no end of an answer without a token, up to 0.32.
        got = b"".join(each for each in EVENTS.findall(got) if b'"finish_reason":"' not in each)
    assert timeless(got) == timeless(wanted)


@given(
    outputs=whole_outputs,
    chat=st.booleans(),
    details=st.booleans(),
    flex=st.booleans(),
    name=st.text(min_size=1),
)
def test_a_plain_whole_answer_has_the_bytes_of_vllms_own(
    outputs: Outputs, chat: bool, details: bool, flex: bool, name: str
) -> None:
    context = internal_context("it", 60.0)
    context.model, context.tier = name, Tier.FLEX if flex else Tier.DEFAULT
    request: Any = CompletionRequest(prompt="Hi", max_tokens=99)
    if chat:
        request = ChatCompletionRequest(messages=SAID)
    kind: Any = OpenAIServingChat if chat else OpenAIServingCompletion
    made = handler(kind, enable_prompt_tokens_details=details)

    async def both() -> tuple[bytes, bytes]:
        enter_context(context)
        (output,) = outputs
        wanted = await their_whole(made, request, deepcopy(output))
        return wanted, await ours(made, request, outputs)

    wanted, got = asyncio.run(both())
    assert timeless(got) == timeless(wanted)


KINDS = pytest.mark.parametrize("kind", [OpenAIServingChat, OpenAIServingCompletion])


@KINDS
@pytest.mark.parametrize("more", ["enable_force_include_usage", "enable_per_request_metrics"])
async def test_a_handler_whose_answers_hold_more_has_no_plain_ones(kind: Any, more: str) -> None:
    assert await answers_of(handler(kind)) is not None
    assert await answers_of(handler(kind, **{more: True})) is None


@KINDS
@pytest.mark.parametrize(
    "config",
    [
        *({name: object()} for name in NO_MORE),
        {"aux_output_config": SimpleNamespace(enable_return_routed_experts=True)},
    ],
    ids=lambda config: next(iter(config)),
)
async def test_an_engine_that_adds_to_answers_has_no_plain_ones(kind: Any, config: Any) -> None:
    assert await answers_of(handler(kind), **config) is None


async def test_a_chat_with_a_parser_has_no_plain_answers() -> None:
    assert await answers_of(handler(OpenAIServingChat, parser_cls=object())) is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_engine_ends_a_plain_answer(stream: bool) -> None:
    enter_context(internal_context("it", 60.0))
    outputs = outputs_of([("a", 1), ("b", 1)] if stream else [("a", 1)], "error", None, 0)
    request = CompletionRequest(prompt="Hi", stream=stream)
    with pytest.raises(GenerationError):
        await ours(handler(OpenAIServingCompletion), request, outputs)
