"""OpenAI's own client, sync and async, against the real engine."""

import json
from typing import Any, cast

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.conftest import ADAPTERS
from tests.served.server import Server

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
JAPAN = cast("list[ChatCompletionMessageParam]", CAPITAL)


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def async_client(smollm2: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def test_a_chat_answers(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.chat.completions.create(model=smollm2.model, messages=JAPAN, temperature=0)
    assert answer.choices[0].message.content == TOKYO
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.model == smollm2.model


def test_a_streamed_chat_is_the_whole_one(client: openai.OpenAI, smollm2: Server) -> None:
    options = {"model": smollm2.model, "messages": JAPAN, "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(**options)  # type: ignore[call-overload]
    parts = client.chat.completions.create(  # type: ignore[call-overload]
        **options, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(parts)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_the_async_client_streams_and_collects(
    async_client: openai.AsyncOpenAI, smollm2: Server
) -> None:
    stream = await async_client.chat.completions.create(
        model=smollm2.model,
        messages=JAPAN,
        temperature=0,
        max_tokens=8,
        stream=True,
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    whole = await async_client.completions.create(
        model=smollm2.model, prompt="Once upon a time", max_tokens=4, temperature=0
    )
    assert text
    assert whole.choices[0].text
    await async_client.close()


def test_completions_take_several_prompts_n_stop_and_seed(tiny: Server) -> None:
    # In float32: in bfloat16 another batch size rounds differently, and may draw another token.
    options: dict[str, Any] = {"model": tiny.model, "max_tokens": 8, "temperature": 1, "n": 2}

    def ask(seed: int, stop: str | None = None) -> list[str]:
        with openai.OpenAI(base_url=f"{tiny.url}/v1", api_key="none", max_retries=0) as client:
            answer = client.completions.create(
                **options, prompt=["One, two,", "Red, green,"], seed=seed, stop=stop
            )
        return [choice.text for choice in answer.choices]

    first = ask(seed=7)
    assert len(first) == 4
    assert len(set(first)) > 1
    assert first == ask(seed=7)
    assert first != ask(seed=8)
    stop = first[0][4:8]
    assert ask(seed=7, stop=stop) == [text.split(stop)[0] for text in first]


def test_logprobs(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.chat.completions.create(
        model=smollm2.model,
        messages=JAPAN,
        max_tokens=3,
        logprobs=True,
        top_logprobs=4,
        temperature=0,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(token.top_logprobs) for token in logprobs.content] == [4, 4, 4]


def test_a_json_schema_is_kept(client: openai.OpenAI, smollm2: Server) -> None:
    answer = client.chat.completions.create(
        model=smollm2.model,
        messages=JAPAN,
        max_tokens=64,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
    )
    assert json.loads(answer.choices[0].message.content or "").keys() == {"city"}


def test_models_show_names_and_no_folders(client: openai.OpenAI, smollm2: Server) -> None:
    base, *adapters = client.models.list()
    assert base.id == smollm2.model
    assert {model.id for model in adapters} == {each.name for each in ADAPTERS.iterdir()}
    assert not any("/" in model.model_dump_json() for model in (base, *adapters))


def test_a_model_says_what_it_can(client: openai.OpenAI, smollm2: Server) -> None:
    listed = {model.id: model.model_dump(exclude={"created"}) for model in client.models.list()}
    tasks = {name: model["task"] for name, model in listed.items()}
    assert tasks[smollm2.model] == tasks["commands"] == "generation"
    assert tasks["sentiment"] == tasks["intent"] == "classification"
    assert {name for name, model in listed.items() if model["tools"]} == {
        name for name, task in tasks.items() if task == "generation"
    }
    for name in (smollm2.model, "sentiment"):
        model = client.models.retrieve(name).model_dump(exclude={"created"})
        assert model["max_model_len"] > 0
        assert _without_serials(model) == _without_serials(listed[name])
    version = next(each for each in _adapters(smollm2) if each["name"] == "sentiment")["version"]
    assert client.models.retrieve(f"sentiment@{version}").id == f"sentiment@{version}"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing/here")


def _without_serials(model: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key != "permission"}


def _adapters(server: Server) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = httpx.get(f"{server.url}/v1/adapters").json()["data"]
    return data


def test_a_classification_adapter_holds_no_conversation(
    client: openai.OpenAI, smollm2: Server
) -> None:
    with pytest.raises(openai.BadRequestError, match="call /v1/classify"):
        client.chat.completions.create(model="sentiment", messages=JAPAN)
    native = smollm2.post("/v1/generate", {"model": "intent", "messages": CAPITAL})
    assert (native.status_code, native.json()["error"]["code"]) == (400, "unsupported")
    assert client.completions.create(model="sentiment", prompt="Good.", max_tokens=1).choices


def test_documents_that_the_template_would_drop_are_refused(smollm2: Server) -> None:
    body = {"model": smollm2.model, "messages": CAPITAL, "documents": [{"text": "The sea."}]}
    error = smollm2.post("/v1/chat/completions", body).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported", "documents")
    assert "this model's chat template reads none" in error["message"]


def test_an_unknown_model_is_not_the_base(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="SmolLM2-135m-instruct", messages=JAPAN)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
