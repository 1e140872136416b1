"""Answers of our routes, beside those of vLLM's own handlers on the same engine."""

import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import State
from starlette.responses import JSONResponse
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from service.vllm.arguments import parse_engine_arguments
from tests.engine.asked_routes import asked, timeless
from tests.engine.in_process import Running, llm_of, running_engine, settings_of

SEQUENCES = 8
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Zähle: \u00e9, \U0001f600"}],
    "max_tokens": 40,
    "temperature": 0.0,
}
TEXT: dict[str, Any] = {"prompt": "Once upon", "max_tokens": 40, "temperature": 0.0}
HOT = {"temperature": 2.0, "seed": 5, "max_tokens": 200}
STOPS = ["th", "er", "an", "in"]
USAGE = {"stream_options": {"include_usage": True}}
BODIES: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "one token of a chat": CHAT | {"max_tokens": 1},
    "hot chat": CHAT | HOT,
    "chat to the end": CHAT | {"max_completion_tokens": 512, "ignore_eos": True},
    "stopped chat": CHAT | HOT | {"stop": STOPS},
    "chat stopped over tokens": CHAT | {"stop": "\n\n\n"},
    "chat that goes on": {
        **CHAT,
        "messages": [*CHAT["messages"], {"role": "assistant", "content": "Eins,"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "penalties": CHAT
    | HOT
    | {"presence_penalty": 1.5, "frequency_penalty": -0.5, "repetition_penalty": 1.2}
    | {"top_p": 0.9, "top_k": 40, "min_p": 0.01, "min_tokens": 5},
    "biases": CHAT | {"logit_bias": {"40": 100}, "bad_words": ["the"]},
    "special tokens": CHAT | {"skip_special_tokens": False, "stop_token_ids": [40, 41]},
    "completion": TEXT,
    "tokens": TEXT | {"prompt": [1, 2, 3]},
    "hot completion": TEXT | HOT,
    "greedy with all set": TEXT | {"user": "me", "n": 1, "logprobs": None},
    "stopped completion": TEXT | HOT | {"stop": "e", "include_stop_str_in_output": True},
    "completion to the end": TEXT
    | {"prompt": list(range(500)), "max_tokens": 512, "ignore_eos": True},
    "cut prompt": TEXT | {"prompt": "word " * 60, "truncate_prompt_tokens": 20},
    "plain prompt": TEXT | {"add_special_tokens": False},
    "default length": {"prompt": "Once upon", "temperature": 0},
}
WHOLE_ONLY: dict[str, dict[str, Any]] = {
    "several": CHAT | HOT | {"n": 3, "max_tokens": 20},
    "log-probabilities": CHAT | {"logprobs": True, "top_logprobs": 3},
    "those of the prompt": CHAT | {"prompt_logprobs": 1},
    "token ids": CHAT | {"return_token_ids": True},
    "several completions": TEXT | HOT | {"n": 3, "max_tokens": 20},
    "several prompts": TEXT | {"prompt": ["Once upon", "a time"]},
    "log-probabilities of a completion": TEXT | {"logprobs": 2, "return_tokens_as_token_ids": True},
    "echo": TEXT | {"echo": True, "logprobs": 1, "max_tokens": 3},
    "token ids of a completion": TEXT | {"return_token_ids": True},
    "tokens of several prompts": TEXT | {"prompt": [[1, 2, 3], [5, 6]], "echo": True},
}


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=SEQUENCES) as engine:
        yield engine


@pytest.fixture(scope="module")
def handlers(running: Running, tiny_folder: Path) -> State:
    """vLLM's handlers on the engine."""
    runner, engine, _ = running
    state = State()
    arguments = parse_engine_arguments(settings_of(tiny_folder, sequences=SEQUENCES))
    runner.run(init_app_state(llm_of(engine), state, arguments, ("generate",)))
    return state


async def by_vllm(handlers: State, body: dict[str, Any]) -> bytes:
    """The JSON of a handler's answer, or its events, without the time of its creation."""
    body = {"model": "tiny", "request_id": "plain"} | body
    if "messages" in body:
        call = handlers.openai_serving_chat.create_chat_completion(ChatCompletionRequest(**body))
    else:
        call = handlers.openai_serving_completion.create_completion(CompletionRequest(**body))
    answer = await call
    if isinstance(answer, AsyncGenerator):
        return timeless("".join([event async for event in answer]).encode())
    return timeless(bytes(JSONResponse(answer.model_dump()).body))


@pytest.mark.parametrize("name", [*BODIES, *WHOLE_ONLY])
def test_a_whole_answer_has_the_bytes_of_vllms_own(
    running: Running, handlers: State, name: str
) -> None:
    runner, engine, admission = running
    body = (BODIES | WHOLE_ONLY)[name]
    runner.run(asked(engine, body))  # then both find the prompt in the cache
    runner.run(by_vllm(handlers, body))
    assert runner.run(asked(engine, body)) == runner.run(by_vllm(handlers, body))
    assert admission.in_flight == 0


TEXTS = re.compile(rb'"(?:content|text)":"((?:[^"\\]|\\.)*)"')


def frames(events: bytes) -> list[bytes]:
    """The events without their texts; equal ones in a row are given once."""
    bare = TEXTS.sub(b"", events).split(b"\n\n")
    return [event for event, before in zip(bare, [b"", *bare], strict=False) if event != before]


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_a_stream_has_the_bytes_of_vllms_own(
    running: Running, handlers: State, name: str, usage: bool
) -> None:
    runner, engine, admission = running
    body = BODIES[name] | {"stream": True} | (USAGE if usage else {})
    runner.run(asked(engine, body))
    runner.run(by_vllm(handlers, body))
    own = runner.run(asked(engine, body))
    # vLLM puts the texts of steps together where its reader is late.
    theirs = runner.run(by_vllm(handlers, body))
    assert frames(own) == frames(theirs)
    assert b"".join(TEXTS.findall(own)) == b"".join(TEXTS.findall(theirs))
    assert admission.in_flight == 0
