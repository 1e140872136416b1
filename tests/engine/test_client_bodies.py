"""Bodies that real programs send, and what OpenAI's servers and vLLM's make of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.served.server import Server

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HI = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "nulls of LangChain and others": (
        CHAT,
        {
            **{"frequency_penalty": None, "functions": None, "logit_bias": None, "n": None},
            **{"response_format": None, "stop": None, "tools": None, "tool_choice": None},
            **{"bad_words": None, "min_tokens": None, "ignore_eos": None, "seed": None},
            **{"skip_special_tokens": None, "stream_options": None, "audio": None},
        },
    ),
    "nulls of a completion": (
        COMPLETION,
        {"suffix": None, "echo": None, "best_of": None, "logprobs": None, "max_tokens": None},
    ),
    "hints of OpenAI's SDKs": (
        CHAT,
        {
            **{"modalities": ["text"], "verbosity": "low", "store": False, "metadata": {"a": "b"}},
            **{"service_tier": "auto", "prompt_cache_retention": "24h", "tools": []},
        },
    ),
    "SillyTavern's vLLM mode": (
        COMPLETION,
        {
            **{"best_of": 1, "use_beam_search": False, "length_penalty": 1, "stop": ["\nUser:"]},
            **{"early_stopping": False, "ignore_eos": False, "skip_special_tokens": True},
            **{"spaces_between_special_tokens": True, "top_k": -1, "prompt_logprobs": None},
            **{"min_tokens": 0, "truncate_prompt_tokens": None, "logprobs": 10},
        },
    ),
    "Continue's autocomplete": (COMPLETION, {"stop": [f"<{n}>" for n in range(12)]}),
    "most stops": (CHAT, {"stop": [f"<{n}>" for n in range(32)]}),
    "Open WebUI with native tools": (
        CHAT,
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        **{"name": "get_time", "description": "The time"},
                        "parameters": {"type": "object", "properties": {}, "required": []},
                    },
                }
            ],
        },
    ),
    "Cline": (
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "You are Cline."},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            ],
            **{"temperature": 0, "parallel_tool_calls": False},
        },
    ),
    "vLLM's own benchmark": (COMPLETION, {"repetition_penalty": 1.0, "ignore_eos": True}),
    "vLLM's parameters": (
        CHAT,
        {
            **{"priority": 0, "include_reasoning": True, "echo": False, "reasoning_effort": "low"},
            **{"add_special_tokens": False, "return_tokens_as_token_ids": True, "logprobs": True},
        },
    ),
}


@pytest.mark.parametrize(("path", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_it_is_answered(tiny: Server, path: str, body: dict[str, Any], stream: bool) -> None:
    sent = {"model": "tiny", **(HI if path == CHAT else {"prompt": "Once"}), **body}
    answer = tiny.post(path, sent | {"stream": stream})
    assert answer.status_code == 200, answer.text
    assert not stream or answer.text.endswith("data: [DONE]\n\n")


def test_a_streamed_answer_is_the_whole_one_with_every_field(tiny: Server) -> None:
    with openai.OpenAI(base_url=f"{tiny.url}/v1", api_key="none", max_retries=0) as client:
        options: dict[str, Any] = {
            "model": "tiny",
            "messages": [
                {"role": "user", "content": "Count"},
                {"role": "assistant", "content": "One, two"},
            ],
            "temperature": 0,
            "max_tokens": 24,
            "stop": [f"<{n}>" for n in range(20)],
            "extra_body": {
                **{"continue_final_message": True, "add_generation_prompt": False},
                **{"chat_template_kwargs": {"enable_thinking": True}, "include_reasoning": False},
                **{"spaces_between_special_tokens": False, "skip_special_tokens": False},
                **{"truncate_prompt_tokens": 20, "truncation_side": "left"},
            },
        }
        whole = client.chat.completions.create(**options)
        chunks = list(client.chat.completions.create(**options, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert whole.usage.prompt_tokens == 20


def ask(tiny: Server, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """The answer to a request with these fields."""
    answer = tiny.post(path, {"model": "tiny", **(HI if path == CHAT else {}), **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def prompt_tokens(tiny: Server, **fields: Any) -> int:
    return int(ask(tiny, **fields)["usage"]["prompt_tokens"])


def test_thinking_is_switched_off_by_either_field(tiny: Server) -> None:
    plain = prompt_tokens(tiny)
    off = prompt_tokens(tiny, chat_template_kwargs={"enable_thinking": False})
    assert off > plain
    assert prompt_tokens(tiny, reasoning_effort="none") == off
    assert prompt_tokens(tiny, reasoning_effort="low") == plain
    assert prompt_tokens(tiny, chat_template_kwargs={"enable_thinking": True}) == plain


def test_documents_reach_a_template_that_reads_them(tiny: Server) -> None:
    documents = [{"title": "Sea", "text": "The sea is blue."}]
    assert prompt_tokens(tiny, documents=documents) > prompt_tokens(tiny)


def test_a_message_is_continued(tiny: Server) -> None:
    messages = [*HI["messages"], {"role": "assistant", "content": "Hel"}]  # type: ignore[misc]
    closed = prompt_tokens(tiny, messages=messages)
    fields: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    assert prompt_tokens(tiny, messages=messages, **fields) < closed
    assert prompt_tokens(tiny, add_generation_prompt=False) < prompt_tokens(tiny)


def test_an_answer_that_cannot_be_as_long_as_asked_ends_where_the_context_does(
    tiny: Server,
) -> None:
    for asked in (49, 2048, 2049, 10**9):
        fields: dict[str, Any] = {"prompt": [1] * 2000, "max_tokens": asked, "ignore_eos": True}
        answer = ask(tiny, COMPLETION, **fields)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 48
    for name in ("max_tokens", "max_completion_tokens"):
        fields = {name: 10**9, "stop_token_ids": [*range(64)]}
        assert ask(tiny, **fields)["choices"]


@pytest.mark.parametrize("key", ["value", "schema"])
def test_a_schema_is_kept_wherever_clients_write_it(tiny: Server, key: str) -> None:
    answer = ask(tiny, response_format={"type": "json_object", key: {"enum": ["x"]}})
    assert answer["choices"][0]["message"]["content"] == '"x"'


@pytest.mark.parametrize("asked", [0, 2])
def test_log_probabilities_of_a_prompt_are_those_of_its_echo(tiny: Server, asked: int) -> None:
    fields: dict[str, Any] = {"prompt": "The sea is blue", "temperature": 0, "max_tokens": 1}
    echoed = ask(tiny, COMPLETION, **fields, echo=True, logprobs=asked)
    read = ask(tiny, COMPLETION, **fields, prompt_logprobs=asked)
    first, *places = read["choices"][0]["prompt_logprobs"]
    assert first is None
    tokens = echoed["choices"][0]["logprobs"]["token_logprobs"][1 : len(places) + 1]
    ids = ask(tiny, "/v1/tokenize", prompt=fields["prompt"])["tokens"]
    assert [place[str(token)]["logprob"] for place, token in zip(places, ids[1:], strict=True)] == (
        pytest.approx(tokens, abs=1e-5)
    )
    chat = ask(tiny, prompt_logprobs=asked)
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]


def test_each_of_several_streamed_answers_echoes_the_log_probabilities(tiny: Server) -> None:
    body = {"model": tiny.model, "prompt": "The sea is blue", "max_tokens": 6, "temperature": 2}
    body |= {"n": 3, "echo": True, "logprobs": 2, "stream": True}
    # More answers at once than the engine has places: those of one prompt begin in different steps.
    with ThreadPoolExecutor(16) as threads:
        streams = list(
            threads.map(lambda seed: tiny.post(COMPLETION, body | {"seed": seed}), range(96))
        )
    expected = ask(tiny, COMPLETION, prompt=body["prompt"], echo=True, logprobs=2, max_tokens=1)
    of_prompt = expected["choices"][0]["logprobs"]["token_logprobs"][:-1]
    for stream in streams:
        first: dict[int, dict[str, Any]] = {}
        for line in stream.text.split("\n\n")[:-2]:
            (choice,) = json.loads(line.removeprefix("data: "))["choices"]
            first.setdefault(choice["index"], choice)
        assert first.keys() == {0, 1, 2}
        for choice in first.values():
            told = choice["logprobs"]["token_logprobs"][: len(of_prompt)]
            assert told[1:] == pytest.approx(of_prompt[1:], abs=1e-3)


@pytest.mark.parametrize("special", [True, False])
def test_vllms_tokenize_tells_what_generation_reads(tiny: Server, special: bool) -> None:
    fields = {"prompt": "One <|im_end|> two", "add_special_tokens": special}
    told = ask(tiny, "/tokenize", **fields)
    read = ask(tiny, COMPLETION, **fields, max_tokens=1, return_token_ids=True)
    assert told["tokens"] == read["choices"][0]["prompt_token_ids"]
    assert ask(tiny, "/detokenize", tokens=told["tokens"]) == {"prompt": fields["prompt"]}
