"""Bodies that the OpenAI routes refuse, so that the engine never gets them."""

from typing import Any

import httpx
import pytest

from tests.served.server import Server

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
LONG = [{"role": "user", "content": "a " * 300}]
DEEP: dict[str, Any] = {}
for _ in range(20):
    DEEP = {"properties": {"a": DEEP}}

TABLE = [
    ("n", {"n": 17}, "n: must be 1..16, got 17"),
    ("no n", {"n": 0}, "n: must be 1..16, got 0"),
    ("n is huge", {"n": 10**30}, "n: must be 1..16"),
    ("stop", {"stop": ["x"] * 33}, "stop: at most 32 entries, got 33"),
    ("long stop", {"stop": "x" * 300}, "stop: at most 256 bytes, got 300"),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}, "top_logprobs: must be 0..20"),
    ("logit_bias", {"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias: at most 300"),
    (
        "choices",
        {"structured_outputs": {"choice": ["x"] * 30_000}},
        "1..256 entries, got 30000",
    ),
    ("regex", {"structured_outputs": {"regex": "(a{999}){999}"}}, "may expand to at most 4096"),
    ("broken regex", {"structured_outputs": {"regex": "(a"}}, "not a valid regular expression"),
    (
        "deep schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": DEEP}}},
        "at most 16 levels deep",
    ),
    ("priority", {"priority": -5}, "priority: not served, it is the tenant's"),
    ("cache_salt", {"cache_salt": "x"}, "cache_salt: not served, each tenant has its own"),
    ("template", {"chat_template": "{{ 1 }}"}, "chat_template: not served, templates from"),
    ("kwargs", {"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs.a: not a field"),
    ("beam search", {"use_beam_search": True}, "use_beam_search: not served, beam search"),
    ("prompt_logprobs", {"prompt_logprobs": 21}, "prompt_logprobs: must be 0..20, got 21"),
    ("prompt's", {"prompt_logprobs": 20, "messages": LONG}, "for the prompts of a request, got"),
    ("documents type", {"documents": 5}, "documents"),
    ("nested typo", {"stream_options": {"include_usag": True}}, "mean 'include_usage'?"),
    ("truncation", {"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ("no prompt is left", {"truncate_prompt_tokens": 0}, ""),
    (
        "both",
        {"continue_final_message": True, "add_generation_prompt": True},
        "continue_final_message: only where",
    ),
    ("typo", {"temprature": 1}, "did you mean 'temperature'?"),
    ("temperature", {"temperature": -1}, "temperature"),
    ("temperature type", {"temperature": "hot"}, "temperature"),
    ("top_p", {"top_p": 0}, "top_p"),
    (
        "penalty",
        {"repetition_penalty": 1e308},
        "repetition_penalty: must be at most 100, got 1e+308",
    ),
    ("top_k is huge", {"top_k": 2**70}, "top_k: an integer must fit into 64 bits, got 118059"),
    ("stop_token_ids", {"stop_token_ids": [2**64]}, "stop_token_ids[0]: an integer must fit"),
    ("max_tokens", {"max_tokens": -3}, "max_tokens"),
    ("messages", {"messages": []}, "messages"),
    ("messages type", {"messages": "hi"}, "messages"),
    ("messages null", {"messages": None}, "messages"),
    ("tools type", {"tools": 5}, "tools: must be a list"),
    ("tool type", {"tools": [5]}, "tools[0]: must be an object"),
    ("tool choice type", {"tool_choice": 5}, ""),
    ("stop type", {"stop": 5}, ""),
    ("response_format", {"response_format": {"type": "grammar"}}, "response_format.type"),
    ("image", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, ""),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_chat_refuses(tiny: Server, change: dict[str, Any], message: str) -> None:
    before = tiny.metric("vllm:prompt_tokens_total")
    answer = tiny.post("/v1/chat/completions", {"model": "tiny"} | CHAT | change)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert error.keys() == {"message", "type", "code", "param", "request_id"}
    assert tiny.metric("vllm:prompt_tokens_total") == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": ["a"] * 65}, "prompt: at most 64 prompts, got 65"),
        ({"prompt": "a " * 5000}, "maximum context length is 2048"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds: not served"),
        ({"prompt": ["a " * 300] * 2, "prompt_logprobs": 6}, "at most 4096 for the prompts of a"),
        ({"prompt": "a " * 600, "echo": True, "logprobs": 6}, "at most 4096 for the prompts of a"),
        ({"prompt": "a", "best_of": 100}, "best_of: not served, answers are not ranked; set n"),
        ({"prompt": "a", "logprobs": 21}, "logprobs: must be 0..20"),
        ({"prompt": [10**9]}, ""),
        ({}, "prompt"),
        ({"prompt": 5}, "prompt: must be a text or a list"),
        ({"prompt": ["a", 5]}, "prompt[1]: must be a text"),
    ],
)
def test_completions_refuse(tiny: Server, body: dict[str, Any], message: str) -> None:
    answer = tiny.post("/v1/completions", {"model": "tiny"} | body)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/chat/completions", {"top_k": -5}),
        ("/v1/chat/completions", {"n": 2, "temperature": 0}),
        ("/v1/chat/completions", {"max_completion_tokens": 0}),
        ("/v1/completions", {"presence_penalty": 3}),
        ("/v1/responses", {"min_p": 2}),
        ("/v1/responses", {"max_output_tokens": 0}),
        ("/v1/messages", {"top_k": -5}),
    ],
)
def test_the_field_at_fault_is_the_parameter(
    tiny: Server, path: str, change: dict[str, Any]
) -> None:
    asked = {"/v1/completions": {"prompt": "a"}, "/v1/responses": {"input": "a"}}
    answer = tiny.post(path, {"model": "tiny"} | asked.get(path, CHAT) | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, next(iter(change))), error
    assert error["message"].startswith(error["param"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"prompt": "a " * 5000}),
        ("/v1/completions", {"prompt": "a " * 5000}),
        ("/v1/completions", {"prompt": [1] * 5000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a " * 5000}]}),
        ("/v1/responses", {"input": "a " * 5000}),
        ("/v1/messages", {"messages": LONG * 40, "max_tokens": 1}),
    ],
)
def test_a_prompt_that_does_not_fit_has_openais_code(
    tiny: Server, path: str, body: dict[str, Any]
) -> None:
    error = tiny.post(path, {"model": "tiny"} | body).json()["error"]
    assert error["code"] == "context_length_exceeded", error
    assert error["param"] in (None, "prompt")


def test_a_streamed_request_that_is_refused_gets_its_status(tiny: Server) -> None:
    body = {"model": "tiny", "prompt": "a " * 5000, "stream": True}
    for path in ("/v1/completions", "/v1/generate"):
        answer = tiny.post(path, body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_bodies_that_are_not_json_objects(tiny: Server, path: str) -> None:
    for content in (
        b"{",
        b"[]",
        b'"a"',
        b"\xff\xfe",
        b'{"model":' + b"[" * 5000,
        b'{"n": NaN}',
        b"",
    ):
        answer = httpx.post(
            tiny.url + path, content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, (content[:20], answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("penalty", [0.01, 100])
def test_a_choice_is_kept_to_under_the_largest_penalties(tiny: Server, penalty: float) -> None:
    choices = [f"{word} {end}" for word in ("k", "bwt", "no") for end in "01"]
    body = {"model": "tiny", "prompt": "".join(choices), "repetition_penalty": penalty, "n": 16}
    body["structured_outputs"] = {"choice": choices}
    answer = tiny.post("/v1/completions", body)
    assert answer.status_code == 200, answer.text
    assert {each["text"] for each in answer.json()["choices"]} <= set(choices)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("name", "ruled"), [("allowed_token_ids", [5, 6]), ("bad_words", ["a", "b", "bb"])]
)
def test_a_structure_of_tokens_that_are_ruled_out(
    tiny: Server, name: str, ruled: list[Any], chat: bool, stream: bool
) -> None:
    body: dict[str, Any] = {"model": "tiny", "prompt": "x", name: ruled, "stream": stream}
    if chat:
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    body["structured_outputs"] = {"choice": ["a", "bb"]}
    answer = tiny.post("/v1/chat/completions" if chat else "/v1/completions", body)
    assert answer.status_code == 400, answer.text  # a stream's first token is the one
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", name)
    assert error["message"].startswith(f"{name}: it rules out every token")


def test_a_deadline_ends_a_running_request(tiny: Server) -> None:
    body = {"model": "tiny", "prompt": "a", "max_tokens": 2000, "ignore_eos": True}
    answer = tiny.post("/v1/completions", body, headers={"x-request-timeout-ms": "300"})
    assert answer.status_code == 504, answer.text
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    body |= {"stream": True}
    for timeout_ms in (300, 600, 1200, 2400, 4800):  # the first that leaves it time for a token
        stream = tiny.post(
            "/v1/completions", body, headers={"x-request-timeout-ms": str(timeout_ms)}
        )
        if stream.status_code != 504:
            break
    assert stream.status_code == 200
    text = stream.text
    assert '"deadline_exceeded"' in text.split("data: ")[-1]
    assert "[DONE]" not in text
