"""OpenAI's Responses on the real engine, by OpenAI's own client and in the bodies of others."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from service.plugins.responses.body import RESPONSES, ResponseBody
from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.test_openai_client import SCHEMA
from tests.served.server import Server

ROUTE = "/v1/responses"
JAPAN: Any = {"input": CAPITAL, "temperature": 0}


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def test_every_field_of_the_sdk_is_served_or_refused_for_a_reason() -> None:
    known = ResponseBody.model_fields.keys() | RESPONSES.hints | RESPONSES.refused.keys()
    assert ResponseCreateParamsBase.__annotations__.keys() - {"access_programs"} <= known


def test_a_response_answers(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.responses.create(model=smollm2.model, **JAPAN)
    assert answer.output_text == TOKYO
    assert (answer.status, answer.model, answer.object) == ("completed", smollm2.model, "response")
    assert answer.usage is not None
    assert answer.usage.input_tokens == 41
    assert answer.usage.total_tokens == 41 + answer.usage.output_tokens
    assert answer.id.startswith("resp_")
    instructed = client.responses.create(
        model=smollm2.model,
        instructions="You are a helpful assistant.",
        input=CAPITAL[0]["content"],
        temperature=0,
        max_output_tokens=4,
    )
    assert instructed.status == "incomplete"
    assert instructed.incomplete_details is not None
    assert instructed.incomplete_details.reason == "max_output_tokens"


def test_the_tier_that_served_is_named(client: openai.OpenAI, smollm2: Server) -> None:
    short: Any = {"model": smollm2.model, "max_output_tokens": 2, **JAPAN}
    assert client.responses.create(**short).service_tier == "default"
    assert client.responses.create(service_tier="flex", **short).service_tier == "flex"
    with client.responses.stream(service_tier="flex", **short) as stream:
        tiers = {e.response.service_tier for e in stream if e.type == "response.incomplete"}
    assert tiers == {"flex"}


def test_a_streamed_response_is_the_whole_one(client: openai.OpenAI, smollm2: Server) -> None:
    with client.responses.stream(model=smollm2.model, **JAPAN) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == TOKYO
    assert final.output_text == TOKYO
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *("response.content_part.added", "response.output_text.done"),
        *("response.content_part.done", "response.output_item.done", "response.completed"),
    ]


def test_a_stream_that_its_maximum_cuts_says_so(client: openai.OpenAI, smollm2: Server) -> None:
    created: Any = client.responses.create
    *_, last = created(model=smollm2.model, stream=True, max_output_tokens=3, **JAPAN)
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_json_schema_is_kept(client: openai.OpenAI, smollm2: Server, stream: bool) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}
    options: Any = {"model": smollm2.model, "text": form, "max_output_tokens": 64, **JAPAN}
    if stream:
        *_, last = client.responses.create(**options, stream=True)
        text = last.response.output_text
    else:
        text = client.responses.create(**options).output_text
    assert json.loads(text).keys() == {"city"}


async def test_the_async_client_streams(smollm2: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{smollm2.url}/v1", api_key="none") as client:
        created: Any = client.responses.create
        stream = await created(model=smollm2.model, stream=True, **JAPAN)
        text = [e.delta async for e in stream if e.type == "response.output_text.delta"]
    assert "".join(text) == TOKYO


def test_log_probabilities(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.responses.create(
        model=smollm2.model,
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        max_output_tokens=2,
        **JAPAN,
    )
    part: Any = answer.output[0]
    assert [len(token.top_logprobs) for token in part.content[0].logprobs] == [3, 3]


def test_no_response_is_kept(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.responses.create(model=smollm2.model, max_output_tokens=1, **JAPAN)
    assert answer.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError, match="no response is kept"):
        client.responses.create(
            model=smollm2.model, previous_response_id=answer.id, max_output_tokens=1, **JAPAN
        )


def test_a_classification_adapter_gives_no_response(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="call /v1/classify"):
        client.responses.create(model="sentiment", **JAPAN)


def test_an_adapter_gives_a_response(client: openai.OpenAI, smollm2: Server) -> None:
    timer = [{"role": "user", "content": "set a timer for 5 minutes"}]
    answer = client.responses.create(model="commands", input=timer, temperature=0)  # type: ignore[arg-type]
    chat = client.chat.completions.create(model="commands", messages=timer, temperature=0)  # type: ignore[arg-type]
    assert answer.output_text == chat.choices[0].message.content
    assert answer.model == "commands"
