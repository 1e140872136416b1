"""OpenAI's Responses on the real engine, by OpenAI's own client and in the bodies of others."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from service.limits.responses_fields import HINTS, NO_OPS, REFUSED, RESPONSE
from tests.answers import refusal
from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.test_openai_client import SCHEMA
from tools.served.server import Server

ROUTE = "/v1/responses"
TOOL: dict[str, Any] = {
    **{"type": "function", "name": "shell", "description": "Runs a command.", "strict": False},
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "array", "items": {"type": "string"}}},
        "required": ["command"],
        "additionalProperties": False,
    },
}
JAPAN: Any = {"input": CAPITAL, "temperature": 0}


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def test_every_field_of_vllms_model_and_the_sdk_is_served_or_refused_for_a_reason() -> None:
    known = RESPONSE.keys() | HINTS | NO_OPS.keys() | REFUSED.keys()
    assert ResponsesRequest.model_fields.keys() - {"request_id"} <= known
    assert ResponseCreateParamsBase.__annotations__.keys() - {"access_programs"} <= known
    assert RESPONSE.keys() <= ResponsesRequest.model_fields.keys()


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


CODEX: dict[str, Any] = {
    "instructions": "You are a coding agent running in a terminal.",
    "input": [
        {
            **{"type": "message", "role": "developer"},
            "content": [{"type": "input_text", "text": "Filesystem sandboxing: read-only."}],
        },
        {
            **{"type": "message", "role": "user"},
            "content": [{"type": "input_text", "text": "<cwd>/work</cwd>"}],
        },
        {
            **{"type": "message", "role": "user"},
            "content": [{"type": "input_text", "text": "List the files."}],
        },
    ],
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": None,
    "store": False,
    "stream": True,
    "include": [],
    "prompt_cache_key": "0199f5c4",
    "client_metadata": {"installation": "a"},
    "service_tier": None,
    "text": None,
}
"""A turn of Codex CLI, which sends no maximum."""
WORKED = [
    {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
    {
        **{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell"},
        **{"arguments": '{"command": ["ls"]}', "status": "completed"},
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "README.md"},
    {
        **{"type": "message", "role": "assistant", "id": "msg_1", "status": "completed"},
        "content": [{"type": "output_text", "text": "README.md", "annotations": []}],
    },
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
]


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream of named events."""
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.removesuffix("\n\n").split("\n\n")]
    data = [json.loads(line.removeprefix("data: ")) for _, line in blocks]
    assert [f"event: {each['type']}" for each in data] == [name for name, _ in blocks]
    return data


@pytest.mark.parametrize("history", [[], WORKED], ids=["first", "later"])
def test_a_turn_of_codex_is_answered(tiny: Server, history: list[Any]) -> None:
    body = CODEX | {"model": "tiny", "input": CODEX["input"] + history, "max_output_tokens": 8}
    events = events_of(tiny.post(ROUTE, body, headers={"accept": "text/event-stream"}))
    assert events[0]["type"] == "response.created"
    assert events[-1]["response"]["usage"]["output_tokens"] == 8
    assert events[-1]["response"]["tools"][0]["name"] == "shell"


def test_what_was_said_is_read_to_its_end(tiny: Server) -> None:
    def tokens(*parts: str) -> int:
        said = [{"type": "output_text", "text": part} for part in parts]
        items = [{"role": "assistant", "content": said}, {"role": "user", "content": "a"}]
        body = {"model": "tiny", "input": items, "max_output_tokens": 1}
        return int(tiny.post(ROUTE, body).json()["usage"]["input_tokens"])

    assert tokens("one two", " three four") == tokens("one two three four") > tokens("one two")


def test_thinking_is_switched_off_as_in_a_chat(tiny: Server) -> None:
    def tokens(**fields: Any) -> int:
        body = {"model": "tiny", "input": "hi", "max_output_tokens": 1} | fields
        return int(tiny.post(ROUTE, body).json()["usage"]["input_tokens"])

    off = tokens(chat_template_kwargs={"enable_thinking": False})
    assert tokens(reasoning={"effort": "none"}) == off > tokens()
    assert tokens(reasoning={"effort": "low", "summary": "auto"}) == tokens()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"input": [{"role": "nobody", "content": "a"}]}, "input"),
        ({"input": [{"role": "user", "content": "a"}, {"type": "function_call"}]}, "input"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, None),
        ({"include": ["everything"]}, None),
        ({"input": "a " * 3000}, None),
    ],
)
def test_what_is_not_served_is_refused_before_a_stream_begins(
    tiny: Server, fields: dict[str, Any], param: str | None, stream: bool
) -> None:
    answer = tiny.post(ROUTE, {"model": "tiny", "input": "Hi", "stream": stream} | fields)
    error = refusal(answer, 400)
    assert param in (None, error["param"])


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


def test_a_response_is_counted_under_its_route(tiny: Server) -> None:
    tiny.post(ROUTE, {"model": "tiny", "input": "Hi", "max_output_tokens": 1})
    metrics = httpx.get(f"{tiny.ops}/metrics").text
    assert any(
        f'route="{ROUTE}"' in line and 'outcome="ok"' in line
        for line in metrics.splitlines()
        if line.startswith("inference_requests_total")
    )
