"""Streams of vLLM through the OpenAI routes."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from service.vllm.answers import parse
from service.vllm.client import GatedClient
from service.vllm.openai import OpenAISurface
from vllm import SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from service.context import current_context, enter_context, internal_context
from service.errors import DeadlineExceeded, QueueFull
from service.gate.gate import Gate
from service.gate.preparation import Preparation
from service.limits.openai_fields import CHAT, COMPLETION, HINTS, REFUSED
from service.limits.shape import Shape
from service.settings.gate import GateSettings
from service.settings.limits import LimitSettings
from service.settings.preparation import PreparationSettings
from service.telemetry.metrics import Metrics
from service.vllm.grammar_sandbox import GrammarSandbox

CHAT_BODY = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PROMPT_BODY = {"model": "tiny", "prompt": "a", "stream": True}


def surface_over(stream: AsyncGenerator[str, None]) -> OpenAISurface:
    """A surface whose one handler answers with this stream."""

    async def create_chat_completion(_: Any) -> AsyncGenerator[str, None]:
        return stream

    chat = SimpleNamespace(create_chat_completion=create_chat_completion, enable_auto_tools=False)
    state: Any = SimpleNamespace(
        openai_serving_completion=None,
        openai_serving_models=SimpleNamespace(),
        openai_serving_chat=chat,
        openai_serving_responses=None,
        anthropic_serving_messages=None,
    )
    client: Any = None
    return OpenAISurface(client, state, chat)


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_that_ends_early_closes_what_vllm_streams(fails: bool) -> None:
    closed = []

    async def events() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "data: {}\n\n"
        finally:
            closed.append(True)

    enter_context(internal_context("test", 600.0))
    stream = events()
    answer = await surface_over(stream).chat(CHAT_BODY)
    assert isinstance(answer, AsyncGenerator)
    await anext(answer)
    if fails:
        current_context().stream_failure = DeadlineExceeded("too late")
        with pytest.raises(DeadlineExceeded):
            await anext(answer)
    else:
        await answer.aclose()
    assert closed


async def test_what_the_gate_ends_a_stream_with_is_kept_for_vllms_handlers_alone() -> None:
    gate = Gate(GateSettings(), Metrics(CollectorRegistry()).of_engine("fake"))
    llm: Any = SimpleNamespace(renderer=None, model_config=SimpleNamespace(max_model_len=8))
    engine: Any = None  # never asked
    settings = PreparationSettings()
    preparation, sandbox = Preparation(gate, settings), GrammarSandbox(gate, settings)
    metrics, limits = Metrics(CollectorRegistry()), LimitSettings()
    client = GatedClient(llm, engine, gate, metrics, preparation, sandbox, limits=limits)
    prompt, params = {"prompt_token_ids": [1]}, SamplingParams(max_tokens=1)
    refusal = QueueFull("full")
    gate.close(lambda: refusal)
    enter_context(internal_context("test", 600.0))
    with pytest.raises(QueueFull):
        await anext(client.stream(prompt, params))
    assert current_context().stream_failure is None
    with pytest.raises(QueueFull):
        await anext(client.generate(prompt, params, ""))
    assert current_context().stream_failure is refusal


@pytest.mark.parametrize(
    ("model", "shape"), [(ChatCompletionRequest, CHAT), (CompletionRequest, COMPLETION)]
)
def test_every_field_of_vllms_models_is_served_or_refused_for_a_reason(
    model: type[BaseModel], shape: Shape
) -> None:
    assert model.model_fields.keys() <= shape.keys() | HINTS | REFUSED.keys()
    assert shape.keys() <= model.model_fields.keys()


def test_more_stops_than_vllm_takes_reach_the_engine() -> None:
    stop = [str(number) for number in range(12)]
    enter_context(internal_context("test", 600.0))
    for kind, body in ((ChatCompletionRequest, CHAT_BODY), (CompletionRequest, PROMPT_BODY)):
        assert parse(kind, body | {"stop": stop}).to_sampling_params(4, {}).stop == stop
