"""One line for each request, without any text of prompts or answers."""

import io
import json
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.common.counting import PerSecond
from service.context import Ending, RequestContext, internal_context
from service.engine.contract import Adapter
from service.errors import QueueFull, ServiceError
from service.settings.telemetry import LogSettings
from service.telemetry.metrics import RequestLog
from service.tenants.tenant import Tenant
from tests.live_service import LiveService

CANARY = "canary-58be21"


def lines(error: str) -> list[dict[str, Any]]:
    return [e for e in map(json.loads, error.splitlines()) if e["event"] == "request"]


def context(route: str = "/v1/generate") -> RequestContext:
    made = internal_context("r1", 1.0)
    made.route, made.model, made.tenant = route, "sentiment", Tenant("acme")
    return made


def told(
    made: RequestContext, outcome: str, error: ServiceError | None = None, **settings: Any
) -> list[dict[str, Any]]:
    stream = io.StringIO()
    log = RequestLog(LogSettings(format="json", **settings), stream)
    log.write(made, Ending(outcome, 200, error))
    return lines(stream.getvalue())


def test_a_line_says_who_what_how_much_and_how_it_ended() -> None:
    made = context()
    made.adapter = Adapter("sentiment", 1, "/a", "sha256:1")
    made.tokens.prompt, made.tokens.cached, made.tokens.completion = 40, 32, 11
    made.times.queue, made.times.first_token = 0.25, 0.5
    made.times.decode, made.times.decode_tokens = 0.4, 10
    (line,) = told(made, "refused", QueueFull("x"))
    assert line.pop("total_ms") > 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "service.request",
        "request_id": "r1",
        "tenant": "acme",
        "route": "/v1/generate",
        "model": "sentiment",
        "adapter_digest": "sha256:1",
        "outcome": "refused",
        "status": 200,
        "code": "queue_full",
        "prompt_tokens": 40,
        "cached_tokens": 32,
        "completion_tokens": 11,
        "queue_ms": 250,
        "ttft_ms": 500,
        "tpot_ms": 40,
    }


@pytest.mark.parametrize(
    ("route", "outcome", "level"),
    [
        ("/v1/generate", "ok", "info"),
        ("/v1/generate", "error", "error"),
        ("/health", "ok", "debug"),
    ],
)
def test_levels_follow_route_and_outcome(route: str, outcome: str, level: str) -> None:
    (line,) = told(context(route), outcome, level="debug")
    assert line["level"] == level
    assert bool(told(context(route), outcome, level="info")) == (level != "debug")


def test_a_flood_of_refusals_has_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.telemetry.metrics.PerSecond", lambda most: PerSecond(most, now))
    seconds = 7.0

    def now() -> float:
        return seconds

    stream = io.StringIO()
    log = RequestLog(LogSettings(format="json", refusals_per_s=2), stream)
    for _ in range(5):
        log.write(context(), Ending("refused", 503, QueueFull("x")))
    # A line that is not written must not take the count with it.
    log.write(context("/health"), Ending("ok", 200))
    log.write(context(), Ending("error", 500))
    seconds = 8.0
    log.write(context(), Ending("refused", 503, QueueFull("x")))
    told = [(line["outcome"], line.get("left_out")) for line in lines(stream.getvalue())]
    assert told == [("refused", None), ("refused", None), ("error", 3), ("refused", None)]


def test_the_console_form_names_the_same_facts() -> None:
    stream = io.StringIO()
    RequestLog(LogSettings(format="console"), stream).write(context(), Ending("ok", 200))
    assert "tenant=acme" in stream.getvalue()


async def test_requests_are_told_once_and_hold_no_word_of_theirs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    headers = {"authorization": f"Bearer {CANARY}", "x-request-id": "mine"}
    answers: list[httpx.Response] = []
    with LiveService(log=LogSettings(level="debug", format="json")) as live:
        async with live.client() as client:
            for path, body in said().items():
                answers.append(await client.post(path, json=body, headers=headers))
            broken = f'{{"prompt": "{CANARY}'
            typed = {"content-type": "application/json"}
            answers.append(await client.post("/v1/generate", content=broken, headers=typed))
            live.engine.failure = RuntimeError(f"cannot answer {CANARY}")
            answers.append(await client.post("/v1/generate", json=said()["/v1/generate"]))
        await eventually(lambda: sum(live.outcomes().values()) == len(answers))
        async with httpx.AsyncClient(trust_env=False) as ops:
            metrics = (await ops.get(f"{live.ops_url}/metrics")).text
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 500]
    errors = capsys.readouterr().err
    assert len(lines(errors)) == len(answers)
    assert CANARY not in errors + metrics
    assert not [answer.text for answer in answers[3:] if CANARY in answer.text]


def said() -> dict[str, Any]:
    return {
        "/v1/generate": {"model": "fake", "prompt": CANARY},
        "/v1/classify": {
            "model": "fake",
            "input": f"text {CANARY}",
            "candidate_labels": [f"{CANARY} a", "b"],
            "instruction": CANARY,
        },
        "/v1/tokenize": {"model": "fake", "prompt": CANARY},
    }
