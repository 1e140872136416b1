"""Random bodies of the generation routes, native and OpenAI's, and the check of their answers."""

import json
import random
from typing import Any

import httpx

from tests.fuzz.pieces import broken, text
from tests.fuzz.structures import response_format, schema

_SHARED = [
    *("model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "response_format", "stream"),
]
_OPENAI = [
    *_SHARED,
    *("allowed_token_ids", "bad_words", "min_tokens", "logit_bias", "ignore_eos"),
    *("logprobs", "stream_options"),
]
NATIVE, CHAT, COMPLETION = "/v1/generate", "/v1/chat/completions", "/v1/completions"
_FIELDS = {
    NATIVE: [*_SHARED, "prompt", "messages", "confidence"],
    CHAT: [*_OPENAI, "messages", "top_logprobs", "tools"],
    COMPLETION: [*_OPENAI, "prompt", "echo", "suffix"],
}


def body(dice: random.Random, path: str) -> dict[str, Any]:
    """A body for one of the three routes: two of three are well formed."""
    made = _well_formed(dice, path)
    return broken(dice, made, _FIELDS[path]) if dice.random() < 1 / 3 else made


def check(response: httpx.Response, path: str, sent: dict[str, Any]) -> None:
    """Raise AssertionError for an incomplete 200: a cut stream, or too few answers."""
    if response.headers["content-type"].startswith("text/event-stream"):
        _check_stream(response.text)
        return
    answer = response.json()
    sequences = answer["outputs" if path == NATIVE else "choices"]
    prompts = sent.get("prompt")
    count = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str | list) else 1
    assert len(sequences) == (sent.get("n") or 1) * count, answer


def _check_stream(events: str) -> None:
    data = [line.removeprefix("data: ") for line in events.splitlines() if line.startswith("data:")]
    assert data, "a stream without events"
    parsed = [json.loads(each) for each in data if each != "[DONE]"]
    errors = [each["error"] for each in parsed if "error" in each]
    assert (data[-1] == "[DONE]") != bool(errors), data[-1]
    assert all(error["type"] == "invalid_request_error" for error in errors), errors


def _well_formed(dice: random.Random, path: str) -> dict[str, Any]:
    made: dict[str, Any] = {"model": "tiny", "max_tokens": dice.randint(1, 8)}
    if path == CHAT or (path == NATIVE and dice.random() < 0.5):
        roles = dice.choice([["user"], ["system", "user"], ["user", "assistant", "user"]])
        made["messages"] = [{"role": r, "content": text(dice, 20) or "a"} for r in roles]
    else:
        made["prompt"] = text(dice, dice.choice([5, 50, 800])) or "a"
    if path == COMPLETION and dice.random() < 0.2:
        made["prompt"] = [text(dice, 5) or "a" for _ in range(dice.choice([1, 2, 8]))]
    made |= {name: value for name, value in _options(dice).items() if dice.random() < 0.25}
    if path != NATIVE:
        narrowed = _narrowing(dice, made["max_tokens"]).items()
        made |= {name: value for name, value in narrowed if dice.random() < 0.05}
    if dice.random() < 0.3:
        made |= _structure(dice, path)
    if path == CHAT and dice.random() < 0.2:
        made |= {"logprobs": True, "top_logprobs": dice.randint(0, 5)}
    if path == COMPLETION and dice.random() < 0.2:
        made |= {"logprobs": dice.randint(0, 5), "echo": dice.random() < 0.5}
    return made


def _options(dice: random.Random) -> dict[str, Any]:
    return {
        "temperature": dice.choice([0, 0.5, 1.0, 2.0]),
        "top_p": dice.choice([0.1, 0.9, 1.0]),
        "top_k": dice.choice([0, 1, 40]),
        "min_p": dice.choice([0.0, 0.1]),
        "n": dice.choice([1, 2, 3]),
        "stop": [text(dice, 2) or "." for _ in range(dice.randint(1, 4))],
        "seed": dice.randint(0, 2**31),
        "presence_penalty": dice.uniform(-2, 2),
        "frequency_penalty": dice.uniform(-2, 2),
        "repetition_penalty": dice.choice([1.0, 1.3]),
        "stream": True,
    }


def _narrowing(dice: random.Random, most: int) -> dict[str, Any]:
    """Fields of vLLM's that leave fewer tokens to choose from, beside a structure perhaps none."""
    tokens = [dice.randint(0, 300) for _ in range(dice.choice([1, 3, 200]))]
    return {
        "allowed_token_ids": tokens,
        "bad_words": [text(dice, 3) or "a" for _ in range(dice.randint(1, 4))],
        "min_tokens": dice.randint(0, most),
        "logit_bias": {str(token): dice.choice([-100, -1, 5, 100]) for token in tokens},
        "ignore_eos": True,
    }


def _structure(dice: random.Random, path: str) -> dict[str, Any]:
    made = response_format(dice)
    if path == NATIVE:
        return {"response_format": made}
    if made["type"] == "json_schema":
        wrapped = {"name": "a", "schema": made["json_schema"]}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
    if path == CHAT and dice.random() < 0.3:
        function = {
            "name": "f",
            "parameters": {"type": "object", "properties": {"a": schema(dice, 2)}},
        }
        return {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    return {"structured_outputs": {made["type"]: made[made["type"]]}}
