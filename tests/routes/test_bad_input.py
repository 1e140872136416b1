"""Bodies that no route accepts: refused with field, limit and value, before the engine."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from loadtests.processes import PATIENCE_S, eventually
from service.http import json_routes as json_body
from service.routes.classify_bodies import ClassifyRequest
from service.routes.generate_bodies import GenerateRequest
from service.routes.tokenize import DetokenizeRequest, TokenizeRequest
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

GENERATE = {"model": "fake", "prompt": "Hi"}
CLASSIFY = {"model": "fake", "input": "Hi", "candidate_labels": ["a", "b"], "calibrate": False}
JSON = {"Content-Type": "application/json"}


def structure(kind: str, value: Any) -> dict[str, Any]:
    return {"response_format": {"type": kind, kind: value}}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


GENERATE_TABLE: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model: must be a valid string, got null"),
    ({"model": ["fake"]}, "model: must be a valid string, got a list of 1"),
    ({"prompt": ""}, "prompt: .*at least 1 character, got ''"),
    ({"prompt": 3}, "prompt: must be a valid string, got 3"),
    ({"prompt": None}, "exactly one of prompt and messages"),
    ({"messages": [{"role": "user", "content": "x"}]}, "exactly one of prompt and messages"),
    ({"prompt": None, "messages": []}, "messages: .*at least 1 item.*got a list of 0"),
    ({"prompt": None, "messages": [{"role": "user"}]}, r"messages\[0\].content: required"),
    ({"prompt": None, "messages": [{"role": "", "content": ""}]}, r"messages\[0\].role: .*got ''"),
    ({"prompt": None, "messages": ["x"]}, r"messages\[0\]: .*got 'x'"),
    (
        {"prompt": None, "messages": [{"role": "user", "content": "x", "nme": "y"}]},
        r"messages\[0\].nme: unknown field",
    ),
    ({"prompt": None, "messages": [{"role": "u", "content": "x"}] * 513}, "messages: .*512.*513"),
    ({"prompt": "x" * 512}, "513 tokens.* 512"),
    ({"max_tokens": 510}, "max_tokens: .*3 tokens and 510 .*512"),
    ({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1, got 0"),
    ({"max_tokens": 1 << 63}, "max_tokens: must be less than or equal to 9223372036854775807"),
    ({"max_tokens": 1.5}, "max_tokens: must be a valid integer.*got 1.5"),
    ({"max_tokens": "8"}, "max_tokens: must be a valid integer, got '8'"),
    ({"max_tokens": True}, "max_tokens: must be a valid integer, got true"),
    ({"max_tokens": 10**4000}, "max_tokens: .*got an integer of 13288 bits"),
    ({"temperature": -0.1}, "temperature: must be greater than or equal to 0, got -0.1"),
    ({"temperature": 2.1}, "temperature: must be less than or equal to 2, got 2.1"),
    ({"temperature": 0, "n": 3}, "n: greedy answers .temperature 0. are all the same, got 3"),
    ({"temperature": "hot"}, "temperature: must be a valid number, got 'hot'"),
    ({"top_p": 0}, "top_p: must be greater than 0, got 0"),
    ({"top_p": 1.1}, "top_p: must be less than or equal to 1, got 1.1"),
    ({"top_k": -1}, "top_k: must be greater than or equal to 0, got -1"),
    ({"top_k": (1 << 20) + 1}, "top_k: must be less than or equal to 1048576, got 1048577"),
    ({"min_p": 1.5}, "min_p: must be less than or equal to 1, got 1.5"),
    ({"n": 0}, "n: must be greater than or equal to 1, got 0"),
    ({"n": 17}, "n: at most 16, got 17"),
    ({"n": 10**4000}, "n: at most 16, got an integer of 13288 bits"),
    ({"stop": ["x"] * 33}, "stop: at most 32 strings, got 33"),
    ({"stop": ""}, r"stop: each must be 1\.\.256 bytes, got 0"),
    ({"stop": ["é" * 129]}, r"stop: each must be 1\.\.256 bytes, got 258"),
    ({"stop": 3}, "^stop: must be a valid string or a list, got 3$"),
    ({"stop": ["a", 3]}, r"^stop\[1\]: must be a valid string, got 3$"),
    ({"seed": 1 << 63}, "seed: must be less than or equal to 9223372036854775807"),
    ({"seed": -(1 << 63) - 1}, "seed: must be greater than or equal to -9223372036854775808"),
    ({"presence_penalty": 2.5}, "presence_penalty: must be less than or equal to 2, got 2.5"),
    ({"frequency_penalty": -2.5}, "frequency_penalty: .*equal to -2, got -2.5"),
    ({"repetition_penalty": 0}, "repetition_penalty: .*equal to 0.01, got 0"),
    ({"stream": 1}, "stream: must be a valid boolean, got 1"),
    ({"confidence": "yes"}, "confidence: must be a valid boolean, got 'yes'"),
    ({"timeout_ms": 0}, "timeout_ms: must be greater than or equal to 1, got 0"),
    ({"temprature": 1}, "temprature: unknown field; did you mean 'temperature'"),
    ({"priority": 1}, "priority: unknown field"),
    ({"x" * 9000: 1}, r"x{40}\.\.\.: unknown field"),
    ({"a\nb": 1}, r"a\\nb: unknown field"),
    ({"response_format": "json"}, "response_format: .*got 'json'"),
    ({"response_format": {"type": "xml"}}, "response_format.type: .*'text', .*got 'xml'"),
    (structure("choice", ["x"] * 30_000), "response_format.choice: 1..256 entries, got 30000"),
    (structure("choice", []), "response_format.choice: 1..256 entries, got 0"),
    (structure("choice", ["x" * 1025]), r"choice\[0\]: 1..1024 bytes, got 1025"),
    (
        structure("choice", ["a", 3]),
        r"^response_format.choice\[1\]: must be a valid string, got 3$",
    ),
    (structure("regex", "((a{64}){64}){64}"), "response_format.regex: .*4096 symbols, got 262144"),
    (structure("regex", "a" * 1025), "response_format.regex: 1..1024 bytes, got 1025"),
    (structure("regex", "("), "response_format.regex: not a valid regular expression"),
    (structure("regex", "(" * 500 + ")" * 500), "response_format.regex: "),
    (structure("json_schema", deep(17)), "json_schema: at most 16 levels deep, got 17"),
    (structure("json_schema", {"title": "x" * 20_000}), "json_schema: at most 16384 bytes, got 2"),
    (structure("json_schema", {"minLength": 10**9}), "minLength may be at most 4096, got 1000000"),
    (structure("json_schema", {"pattern": "(a{999}){999}"}), "pattern: .*4096 symbols, got 998001"),
    (structure("json_schema", {"type": "strin"}), "json_schema: not a valid JSON schema at type"),
    ({"response_format": {}}, "response_format.type: required"),
    ({"response_format": {"type": "json_schema"}}, "^response_format.json_schema: required$"),
    (structure("json_schema", True), "^response_format.json_schema: must be an object with keys,"),
]

CLASSIFY_TABLE: list[tuple[dict[str, Any], str]] = [
    ({"input": []}, r"input: 1\.\.256 texts, got 0"),
    ({"input": ["x"] * 257}, r"input: 1\.\.256 texts, got 257"),
    ({"input": 3}, "^input: must be a valid string or a list, got 3$"),
    ({"input": "x" * 512}, "input.* 512"),
    ({"candidate_labels": None}, "candidate_labels: required for the base model"),
    ({"candidate_labels": ["a"]}, r"candidate_labels: 2\.\.256 labels, got 1"),
    ({"candidate_labels": ["a"] * 257}, r"candidate_labels: 2\.\.256 labels, got 257"),
    ({"candidate_labels": ["a", "a"]}, r"candidate_labels\[1\]: 'a' is given twice"),
    ({"candidate_labels": ["a", "x" * 257]}, r"candidate_labels\[1\]: .*256 bytes.*got 257"),
    ({"candidate_labels": ["a", ""]}, r"candidate_labels\[1\]: "),
    ({"candidate_labels": "ab"}, "candidate_labels: must be a list, got 'ab'"),
    ({"instruction": ""}, "instruction: .*at least 1 character, got ''"),
    ({"instruction": "x" * 4097}, "instruction: .*at most 4096 characters, got 4097 characters"),
    ({"top_k": 0}, "top_k: must be greater than or equal to 1, got 0"),
    ({"threshold": 1.5}, "threshold: must be less than or equal to 1, got 1.5"),
    ({"candidate_label": ["a"]}, "candidate_label: unknown field; did you mean 'candidate_labels'"),
]

CASES = [("/v1/generate", GENERATE | change, message) for change, message in GENERATE_TABLE]
CASES += [("/v1/classify", CLASSIFY | change, message) for change, message in CLASSIFY_TABLE]
CASES += [
    ("/v1/tokenize", {"model": "fake"}, "exactly one of prompt and messages"),
    ("/v1/tokenize", {"model": "fake", "prompt": ["x"]}, "prompt: .*got a list of 1"),
    ("/v1/detokenize", {"model": "fake"}, "tokens: required"),
    ("/v1/detokenize", {"model": "fake", "tokens": ["x"]}, r"tokens\[0\]: .*integer, got 'x'"),
    ("/v1/detokenize", {"model": "fake", "tokens": [1.5]}, r"tokens\[0\]: .*integer.*got 1.5"),
    (
        "/v1/detokenize",
        {"model": "fake", "tokens": [1] * ((1 << 17) + 1)},
        "tokens: .*at most 131072 items.*got a list of 131073",
    ),
]

TEXTS = [
    ("", "not valid JSON"),
    ("{", "not valid JSON"),
    ("{'model': 1}", "not valid JSON"),
    ('{"model": "fake"} {}', "not valid JSON: trailing"),
    ("null", "body: "),
    ("[]", "body: "),
    ('"text"', "body: "),
    ("3", "body: "),
    ('{"model": "fake", "prompt": "a", "temperature": NaN}', "not valid JSON"),
    ('{"model": "fake", "prompt": "a", "temperature": -Infinity}', "not valid JSON"),
    ('{"model": "fake", "prompt": "a", "temperature": 1e999}', "must be finite"),
    ('{"model": "fake", "prompt": "a", "max_tokens": -1e999}', "must be finite"),
    ('{"model": "fake", "prompt": "a", "n": ' + "9" * 5000 + "}", "not valid JSON: number out of"),
    (r'{"model": "fake", "prompt": "\ud800"}', "not valid JSON"),
    (r'{"model": "fake", "prompt": "\udc00\ud800"}', "not valid JSON"),
    ("[" * 10_000 + "]" * 10_000, "not valid JSON: recursion limit"),
    ('{"a":' * 10_000 + "1" + "}" * 10_000, "not valid JSON: recursion limit"),
    ('{"model": ' + "[" * 100 + "]" * 100 + "}", "nested deeper than 64 levels"),
    ('{"input": [' + "[]," * 9998 + "{}]}", "at most 10000 lists and objects"),
    ('{"input": [' + '"",' * 40_000 + '""]}', "at most 40000 texts and names of fields"),
]


async def refuse(service: LiveService, path: str, content: bytes, **headers: str) -> dict[str, Any]:
    """The 400 for a raw body; the engine must not have seen it."""
    before = service.engine.starts
    async with service.client() as client:
        response = await client.post(path, content=content, headers=JSON | headers)
    error = refusal(response, 400)
    assert len(error["message"]) < 500
    assert len(error["param"] or "") < 200
    assert service.engine.starts == before
    assert service.idle()
    return error


@pytest.mark.parametrize(("path", "body", "message"), CASES, ids=[case[2] for case in CASES])
async def test_a_bad_field_is_named_with_its_limit_and_value(
    service: LiveService, path: str, body: dict[str, Any], message: str
) -> None:
    error = await refuse(service, path, json.dumps(body).encode())
    assert re.search(message, error["message"]), error["message"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (GenerateRequest, {"messages": [0] * 1000}),
        (GenerateRequest, {"prompt": "a", "stop": [0] * 1000}),
        (TokenizeRequest, {"messages": [0] * 1000}),
        (DetokenizeRequest, {"tokens": ["a"] * 1000}),
        (ClassifyRequest, {"input": [0] * 1000, "candidate_labels": [0] * 1000}),
    ],
)
def test_a_list_of_bad_items_has_an_error_for_the_first(
    model: type[BaseModel], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"model": "fake"} | body)
    assert refused.value.error_count() <= 4  # a union's members have one each


MANY = {f"field{number}": 0 for number in range(1000)}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (GenerateRequest, {"prompt": "a"} | MANY),
        (GenerateRequest, {"messages": [{"role": "user", "content": "a"} | MANY]}),
        (GenerateRequest, {"prompt": "a", "response_format": {"type": "text"} | MANY}),
        (ClassifyRequest, {"input": "a"} | MANY),
        (TokenizeRequest, {"prompt": "a"} | MANY),
    ],
)
def test_of_many_unknown_fields_the_first_is_the_error(
    model: type[BaseModel], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"model": "fake"} | body)
    assert refused.value.error_count() == 1
    assert refused.value.errors()[0]["ctx"]["name"] == "field0"


@pytest.mark.parametrize(("size", "beside"), [(1_000, False), (100_000, True)])
async def test_a_large_body_is_parsed_beside_the_event_loop(
    client: httpx.AsyncClient, size: int, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed_in: list[bool] = []

    def parse(body: bytes) -> Any:
        parsed_in.append(asyncio._get_running_loop() is None)
        return from_json(body)

    monkeypatch.setattr(json_body, "parse", parse)
    refusal(await client.post("/v1/generate", json={"model": "fake", "a": "x" * size}), 400)
    assert parsed_in == [beside]


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/classify", "/v1/tokenize", "/v1/detokenize"])
@pytest.mark.parametrize(("text", "message"), TEXTS, ids=[text[0][:60] for text in TEXTS])
async def test_what_is_no_json_object_is_refused_on_every_route(
    service: LiveService, path: str, text: str, message: str
) -> None:
    error = await refuse(service, path, text.encode())
    assert message in error["message"]


@pytest.mark.parametrize("content", [b'"\xff"', b'{"model": "\xc3\x28"}', b"\xff\xfe{\x00}\x00"])
async def test_invalid_utf8_is_refused(service: LiveService, content: bytes) -> None:
    error = await refuse(service, "/v1/generate", content)
    assert (error["code"], "body: not valid JSON" in error["message"]) == ("invalid_json", True)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
async def test_another_content_type_is_refused(
    client: httpx.AsyncClient, service: LiveService, kind: str
) -> None:
    before = service.engine.starts
    headers = {"Content-Type": kind}
    response = await client.post("/v1/generate", content=json.dumps(GENERATE), headers=headers)
    error = refusal(response, 415)
    assert f"application/json, got '{kind}'" in error["message"]
    assert service.engine.starts == before


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_with_parameters_is_json(client: httpx.AsyncClient, kind: str) -> None:
    headers = {"Content-Type": kind}
    response = await client.post("/v1/generate", content=json.dumps(GENERATE), headers=headers)
    assert response.status_code == 200


async def test_a_byte_order_mark_before_a_body_is_left_out(client: httpx.AsyncClient) -> None:
    body = "\ufeff" + json.dumps(GENERATE)
    response = await client.post("/v1/generate", content=body.encode(), headers=JSON)
    assert response.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/generate", "/nowhere", "/health"])
async def test_a_body_over_the_limit_is_refused_by_what_was_read(chunked: bool, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    with LiveService(http=HttpSettings(max_body_bytes=4096)) as live:
        async with live.client() as client:
            content = chunks() if chunked else b"x" * (1 << 22)
            response = await client.post(path, content=content, headers=JSON)
        assert live.engine.starts == 0
    error = refusal(response, 413)
    assert "body: at most 4096 bytes, got" in error["message"]
    assert response.headers["connection"] == "close"


async def test_a_body_at_the_limit_is_read() -> None:
    body = json.dumps(GENERATE).ljust(4096).encode()
    with LiveService(http=HttpSettings(max_body_bytes=4096)) as live:
        async with live.client() as client:
            response = await client.post("/v1/generate", content=body, headers=JSON)
    assert response.status_code == 200


async def test_the_unfinished_bodies_of_one_tenant_hold_so_much_together(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", entry("many"), entry("other"))
    half = b'{"model": "fake", "prompt": "' + b"x" * 3000
    http = HttpSettings(max_body_bytes=4096, tenant_body_bytes=4096)
    with LiveService(http=http, tenants={"keys": keys}) as live:
        ends = asyncio.Event()

        async def stalling() -> AsyncIterator[bytes]:
            yield half
            await ends.wait()
            yield b'"}'

        async def send(tenant: str, content: bytes | AsyncIterator[bytes]) -> httpx.Response:
            headers = JSON | bearer(tenant)
            return await client.post("/v1/generate", content=content, headers=headers)

        whole = half + b'"}'
        async with live.client() as client, asyncio.timeout(PATIENCE_S):
            first = asyncio.create_task(send("many", stalling()))
            while (refused := await send("many", whole)).status_code != 429:
                pass  # the first is not there yet
            other = await send("other", whole)
            ends.set()
            answers = [await first, other, await send("many", whole)]
    # Too long a prompt for the model: the body was read.
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    error = refusal(refused, 429)
    assert error["code"] == "too_many_body_bytes"
    assert "at most 4096 bytes together" in error["message"]


async def test_a_body_that_does_not_come_is_refused() -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"{"
        await eventually(lambda: live.outcomes()["invalid"] == 1)

    with LiveService(http=HttpSettings(body_timeout_ms=100)) as live:
        async with live.client() as client:
            response = await client.post("/v1/generate", content=stalling(), headers=JSON)
    error = refusal(response, 408)
    assert "100 ms" in error["message"]


def test_unknown_fields_that_are_off_never_matter() -> None:
    off = {"options": False, "tags": [], "note": None, "separate_reasoning": True}
    off |= {"max_tokens": 3.0}  # an integer, as in JSON Schema
    with LiveService() as live:
        answer = httpx.post(f"{live.url}/v1/generate", json=GENERATE | off)
        assert answer.status_code == 200, answer.text
        assert "x-ignored-fields" not in answer.headers
        error = refusal(
            httpx.post(f"{live.url}/v1/generate", json=GENERATE | {"options": True}), 400
        )
        assert error["message"] == "options: unknown field"


def test_one_setting_ignores_unknown_fields_on_every_route() -> None:
    with LiveService(
        limits={"unknown_fields": "ignore"}, encoders=[{"name": "classify", "path": "unused"}]
    ) as live:
        for path, body in (
            ("/v1/generate", GENERATE),
            ("/v1/classify", {"model": "classify", "input": "sun"}),
            ("/v1/tokenize", {"model": "fake", "prompt": "Hi"}),
            ("/v1/completions", {"model": "fake", "prompt": "Hi", "max_tokens": 2}),
        ):
            answer = httpx.post(live.url + path, json=body | {"tenor": 1, "a\nb": {}})
            assert answer.status_code == 200, answer.text
            assert "tenor" in answer.headers["x-ignored-fields"].split(", ")
