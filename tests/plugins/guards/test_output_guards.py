"""Output guards of /v1/generate over fakes: whole answers, streams and batches; and failures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import EngineDead
from service.plugins.guards.policies import MARKER
from tests.answers import refusal
from tests.live_service import MODEL, LiveService
from tests.plugins.guards.test_input_guards import GUARDS
from tools.keys import bearer, entry, write_keys

TENANTS: dict[str, Any] = {
    "refused": {"output": ["never", "always"]},
    "flagged": {"output": ["always"], "on": "flag"},
    "redacted": {"output": ["always"], "on": "redact"},
    "passed": {"output": ["always"], "on_failure": "pass"},
    "clear": {"output": ["never"]},
    "both": {"input": ["always"], "output": ["never"], "on": "redact"},
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder = tmp_path_factory.mktemp("keys")
    names = [*TENANTS, "free"]
    write_keys(folder / "keys.json", *(entry(name, models=[MODEL]) for name in names))
    with LiveService(
        encoders=[{"name": "classify", "path": "unused"}],
        guards={"named": GUARDS, "tenants": TENANTS},
        tenants={"keys": folder / "keys.json"},
    ) as service:
        yield service


async def asked(live: LiveService, tenant: str, **body: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": "secret", "max_tokens": 4, "seed": 1} | body
    async with live.client() as client:
        return await client.post("/v1/generate", json=body, headers=bearer(tenant))


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def text_of(answer: httpx.Response, *, stream: bool) -> str:
    if not stream:
        return "".join(output["text"] for output in answer.json()["outputs"])
    deltas = [event for event in events(answer) if "index" in event]
    return "".join(delta["text"] for delta in sorted(deltas, key=lambda each: each["index"]))


BOTH = pytest.mark.parametrize("stream", [True, False])


@BOTH
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"confidence": True}])
async def test_a_flagged_answer_is_refused(
    live: LiveService, stream: bool, fields: dict[str, Any]
) -> None:
    text = text_of(await asked(live, "free", stream=stream, **fields), stream=stream)
    answer = await asked(live, "refused", stream=stream, **fields)
    error = refusal(answer, 400)
    assert error["code"] == "output_flagged"
    assert "'always'" in error["message"]
    assert text not in answer.text
    labels = {"side": "output", "guard": "always", "verdict": "refused"}
    assert live.value("inference_guard_checks_total", **labels) >= 1


@BOTH
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"confidence": True}])
async def test_an_answer_that_is_clear_stays_as_it_is(
    live: LiveService, stream: bool, fields: dict[str, Any]
) -> None:
    free = await asked(live, "free", stream=stream, **fields)
    before = live.value("inference_guard_held_seconds_count")
    clear = await asked(live, "clear", stream=stream, **fields)
    assert text_of(clear, stream=stream) == text_of(free, stream=stream)
    assert live.value("inference_guard_held_seconds_count") == before + fields.get("n", 1)
    if not stream:
        assert clear.json()["usage"] == free.json()["usage"]
        assert [each["confidence"] for each in clear.json()["outputs"]] == [
            each["confidence"] for each in free.json()["outputs"]
        ]


@BOTH
async def test_a_flag_is_a_header(live: LiveService, stream: bool) -> None:
    answer = await asked(live, "flagged", stream=stream)
    free = await asked(live, "free", stream=stream)
    assert text_of(answer, stream=stream) == text_of(free, stream=stream)
    flags = answer.headers["x-guard-flagged"].split(", ")
    assert all(flag.partition("/")[0] == "always" for flag in flags)


@BOTH
async def test_a_marker_stands_in_the_place_of_a_sentence(live: LiveService, stream: bool) -> None:
    answer = await asked(live, "redacted", stream=stream)
    assert text_of(answer, stream=stream).strip() == MARKER
    assert "x-guard-flagged" not in answer.headers


async def test_what_a_marker_would_break_is_refused(live: LiveService) -> None:
    choice = {"type": "choice", "choice": ["yes", "no"]}
    answer = await asked(live, "redacted", response_format=choice)
    assert refusal(answer, 400)["code"] == "output_flagged"


@BOTH
async def test_a_failed_guard_refuses_or_passes(live: LiveService, stream: bool) -> None:
    admission = live.encoders["classify"].admission
    admission.close(EngineDead)
    try:
        error = refusal(await asked(live, "clear", stream=stream), 503)
        assert error["code"] == "guard_failed"
        passed = await asked(live, "passed", stream=stream)
        free = await asked(live, "free", stream=stream)
        assert text_of(passed, stream=stream) == text_of(free, stream=stream)
    finally:
        admission.open()


async def test_a_request_is_not_redacted_but_refused(live: LiveService) -> None:
    before = live.engine.starts
    assert refusal(await asked(live, "both"), 400)["code"] == "input_flagged"
    assert live.engine.starts == before


def test_redact_needs_a_guard_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="redact is for answers"):
        LiveService(guards={"named": GUARDS, "default": {"input": ["never"], "on": "redact"}})
    with pytest.raises(ValueError, match=r"output: no guard has the name 'nver'"):
        LiveService(guards={"named": GUARDS, "default": {"output": ["nver"]}})
