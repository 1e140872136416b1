"""Output guards of every route that generates, by an adapter of the same engine.

Admission lets one sequence run at a time: a guard that waited for its own request would wait for
ever.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.plugins.guards.policies import MARKER
from tests.answers import error_of
from tests.engine.conftest import ADAPTERS
from tests.served.configuration import ENGINE
from tests.served.server import PATIENT, Server, running_server
from tools.keys import bearer, entry, write_keys

GOOD = "This film was a wonderful and moving masterpiece. "
BAD = "This film was a terrible and boring waste of time. "
SCRIPT = GOOD + BAD.strip()
SENTIMENT = {"model": "sentiment", "labels": ["negative"]}
TENANTS: dict[str, Any] = {
    "refused": {"output": ["boos"]},
    "flagged": {"output": ["boos"], "on": "flag"},
    "clear": {"output": ["never"]},
    "all": {"output": ["always"]},
    "redacted": {"output": ["always"], "on": "redact"},
}
MODEL = "smollm2-135m-instruct"
CHAT, GENERATE = "/v1/chat/completions", "/v1/generate"


def asked(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


ROUTES: dict[str, tuple[Any, str]] = {
    GENERATE: (lambda text: {"prompt": text}, "max_tokens"),
    "/v1/completions": (lambda text: {"prompt": text}, "max_tokens"),
    CHAT: (asked, "max_tokens"),
    "/v1/responses": (lambda text: {"input": text}, "max_output_tokens"),
    "/v1/messages": (asked, "max_tokens"),
}
STRUCTURED: dict[str, dict[str, Any]] = {
    GENERATE: {"response_format": {"type": "regex", "regex": SCRIPT.replace(".", "[.]")}},
    "/v1/completions": {"structured_outputs": {"choice": [SCRIPT]}},
    CHAT: {"structured_outputs": {"choice": [SCRIPT]}},
}
BOTH = pytest.mark.parametrize("stream", [False, True])
EVERY = pytest.mark.parametrize("path", ROUTES)


def configuration(folder: Path, base: Path) -> dict[str, Any]:
    """A service of this base model whose tenants' keys are in the folder."""
    names = [*TENANTS, "free"]
    write_keys(folder / "keys.json", *(entry(name, models=[MODEL]) for name in names))
    thresholds = {"boos": 0.8, "never": 1.0, "always": 1e-9}
    return PATIENT | {
        "model": {"name": MODEL, "path": str(base)},
        "engine": ENGINE | {"max_lora_rank": 8},
        "admission": PATIENT["admission"] | {"max_in_flight": 1},
        "adapters": [{"source": str((ADAPTERS / "sentiment").resolve())}],
        "guards": {
            "named": {name: SENTIMENT | {"threshold": t} for name, t in thresholds.items()},
            "tenants": TENANTS,
        },
        "tenants": {"keys": str(folder / "keys.json")},
    }


@pytest.fixture(scope="module")
def server(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    with running_server(folder, configuration(folder, smollm2_folder)) as running:
        yield running


def post(server: Server, path: str, tenant: str, **fields: Any) -> httpx.Response:
    body, most = ROUTES[path]
    asked = {"model": MODEL, most: 12, "temperature": 0} | body("Describe a rainy day.")
    return server.post(path, asked | fields, headers=bearer(tenant))


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def text_of(answer: httpx.Response, path: str, *, stream: bool) -> str:
    """The text of an answer, whole or streamed, of any route."""
    assert answer.status_code == 200, answer.text
    if stream:
        return "".join(_delta(event, path) for event in events(answer))
    body = answer.json()
    match path:
        case "/v1/generate":
            return str(body["outputs"][0]["text"])
        case "/v1/completions":
            return str(body["choices"][0]["text"])
        case "/v1/chat/completions":
            return str(body["choices"][0]["message"]["content"])
        case "/v1/responses":
            return str(body["output"][0]["content"][0]["text"])
        case _:
            return str(body["content"][0]["text"])


def _delta(event: dict[str, Any], path: str) -> str:
    match path:
        case "/v1/generate":
            return str(event.get("text", ""))
        case "/v1/completions":
            return "".join(choice["text"] for choice in event.get("choices", []))
        case "/v1/chat/completions":
            deltas = [choice["delta"] for choice in event.get("choices", [])]
            return "".join(delta.get("content") or "" for delta in deltas)
        case "/v1/responses":
            return event["delta"] if event["type"] == "response.output_text.delta" else ""
        case _:
            found = event["delta"] if event["type"] == "content_block_delta" else {}
            return str(found.get("text", ""))


@EVERY
@BOTH
def test_a_clear_answer_stays_as_it_is(server: Server, path: str, stream: bool) -> None:
    free = text_of(post(server, path, "free", stream=stream), path, stream=stream)
    assert len(free) > 20
    assert text_of(post(server, path, "clear", stream=stream), path, stream=stream) == free


@EVERY
@BOTH
def test_a_flagged_answer_is_refused(server: Server, path: str, stream: bool) -> None:
    answer = post(server, path, "all", stream=stream)
    assert answer.status_code == 400, answer.text
    error = error_of(answer.json())
    assert error["code"] == "output_flagged"
    assert "'always'" in error["message"]


@EVERY
@BOTH
def test_sentences_are_redacted(server: Server, path: str, stream: bool) -> None:
    text = text_of(post(server, path, "redacted", stream=stream), path, stream=stream)
    assert set(text.split()) == {MARKER}


@pytest.mark.parametrize("path", STRUCTURED)
def test_a_stream_ends_at_the_sentence_that_is_flagged(server: Server, path: str) -> None:
    answer = post(server, path, "refused", stream=True, max_tokens=150, **STRUCTURED[path])
    assert text_of(answer, path, stream=True).strip() == GOOD.strip()
    assert events(answer)[-1]["error"]["code"] == "output_flagged"
    assert "[DONE]" not in answer.text
    assert "terrible" not in answer.text


def test_a_caller_without_a_guard_gets_both_sentences(server: Server) -> None:
    answer = post(server, GENERATE, "free", max_tokens=150, **STRUCTURED[GENERATE])
    assert text_of(answer, GENERATE, stream=False) == SCRIPT


@pytest.mark.parametrize("path", STRUCTURED)
def test_a_whole_answer_is_read_as_one(server: Server, path: str) -> None:
    choice = {"choice": [BAD.strip()]}
    fields: dict[str, Any] = {"structured_outputs": choice, "max_tokens": 150}
    if path == GENERATE:
        fields = {"response_format": {"type": "choice"} | choice, "max_tokens": 150}
    for tenant, code in (("refused", "output_flagged"), ("redacted", "output_flagged")):
        answer = post(server, path, tenant, **fields)
        assert (answer.status_code, error_of(answer.json())["code"]) == (400, code)
    flagged = post(server, path, "flagged", **fields)
    assert text_of(flagged, path, stream=False) == BAD.strip()
    assert flagged.headers["x-guard-flagged"] == "boos/negative"


@BOTH
@pytest.mark.parametrize(
    "fields", [{"n": 2, "temperature": 0.5, "seed": 1}, {"logprobs": True, "top_logprobs": 1}]
)
def test_several_answers_and_tokens_stay_as_they_are(
    server: Server, fields: dict[str, Any], stream: bool
) -> None:
    free = post(server, CHAT, "free", stream=stream, **fields)
    clear = post(server, CHAT, "clear", stream=stream, **fields)
    if not stream:
        assert clear.json()["choices"] == free.json()["choices"]
        return
    for read in (_texts, _tokens):
        assert read(clear) == read(free)


def _texts(answer: httpx.Response) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events(answer):
        for choice in event["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
    return texts


def _tokens(answer: httpx.Response) -> list[Any]:
    choices = [choice for event in events(answer) for choice in event["choices"]]
    logprobs = [choice["logprobs"]["content"] for choice in choices if choice.get("logprobs")]
    return [token for of in logprobs for token in of]


@pytest.mark.parametrize(
    ("tenant", "path", "fields"),
    [
        ("clear", CHAT, {"return_token_ids": True}),
        ("redacted", CHAT, {"logprobs": True}),
        ("redacted", "/v1/completions", {"logprobs": 0}),
        ("redacted", "/v1/responses", {"include": ["message.output_text.logprobs"]}),
    ],
)
def test_tokens_that_no_guard_holds_are_refused(
    server: Server, tenant: str, path: str, fields: dict[str, Any]
) -> None:
    error = error_of(post(server, path, tenant, **fields).json())
    assert (error["code"], error["param"]) == ("unsupported", next(iter(fields)))


def test_an_answer_with_tools_is_refused_and_not_redacted(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = post(server, CHAT, "redacted", tools=[tool])
    assert error_of(answer.json())["code"] == "output_flagged"


def test_the_time_that_text_was_held_is_measured(server: Server) -> None:
    assert server.metric("inference_guard_held_seconds_count") > 0
