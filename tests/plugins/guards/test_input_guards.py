"""Input guards before /v1/generate over fakes: refusal, flag, failure, and who sees nothing."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import httpx
import pytest

from service.context import enter_context, internal_context
from service.errors import EngineDead, InvalidRequest
from service.runtime.parts import Served
from service.tenants.tenant import Tenant
from tests.answers import refusal
from tests.fake_encoder import MAX_MODEL_LEN
from tests.live_service import MAX_MODEL_LEN as CONTEXT
from tests.live_service import MODEL, LiveService
from tools.keys import bearer, entry, write_keys

LABELS = ["sports", "politics", "weather"]
GUARDS = {
    "always": {"model": "classify", "labels": LABELS, "threshold": 0.01},
    "never": {"model": "classify", "labels": LABELS, "threshold": 1.0},
}
TENANTS = {
    "refused": {"input": ["never", "always"]},
    "flagged": {"input": ["always"], "on": "flag"},
    "passed": {"input": ["always"], "on_failure": "pass"},
    "clear": {"input": ["never"]},
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    # A guard reads whatever models the key may use.
    write_keys(keys, *(entry(name, models=[MODEL]) for name in [*TENANTS, "free"]))
    with LiveService(
        encoders=[{"name": "classify", "path": "unused"}],
        guards={"named": GUARDS, "tenants": TENANTS},
        tenants={"keys": keys},
    ) as service:
        yield service


async def asked(live: LiveService, tenant: str, **body: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": "secret", "max_tokens": 2} | body
    async with live.client() as client:
        return await client.post("/v1/generate", json=body, headers=bearer(tenant))


def reads(live: LiveService) -> float:
    return live.value("inference_tokens_total", model="classify", kind="prompt")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_flagged_input_is_refused_before_the_model_reads(
    live: LiveService, stream: bool
) -> None:
    before = live.engine.starts
    error = refusal(await asked(live, "refused", stream=stream), 400)
    assert error["code"] == "input_flagged"
    assert "'always'" in error["message"]
    assert any(repr(label) in error["message"] for label in LABELS)
    assert "secret" not in error["message"]
    assert live.engine.starts == before
    assert live.value("inference_guard_checks_total", guard="always", verdict="refused") >= 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_flag_is_a_header(live: LiveService, stream: bool) -> None:
    answer = await asked(live, "flagged", stream=stream)
    assert answer.status_code == 200
    flags = answer.headers["x-guard-flagged"].split(", ")
    assert flags
    assert all(flag.partition("/")[0] == "always" for flag in flags)
    assert live.value("inference_guard_checks_total", guard="always", verdict="flagged") >= 1


async def test_tokens_beyond_what_model_or_guard_read_are_refused_unread(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def decode(token_ids: Sequence[int]) -> str:
        decoded.append(len(token_ids))
        return "x" * ((1 << 20) + 1)

    monkeypatch.setattr(live.model, "decode", decode)
    context = internal_context("test", 10.0)
    context.tenant = Tenant("refused")
    before = reads(live)
    for tokens, code in (
        (CONTEXT + 1, "context_length_exceeded"),
        (CONTEXT, "guard_unreadable"),
    ):
        body = {"prompt": [65] * tokens}
        enter_context(context)
        runtime = live.app.state.runtime
        with pytest.raises(InvalidRequest) as refused:
            await runtime.plugins.accept(Served(context, runtime, partial(dict, body)))
        assert refused.value.code == code
    assert decoded == [CONTEXT]
    assert reads(live) == before


async def test_a_tenant_without_a_policy_sees_nothing(live: LiveService) -> None:
    before = reads(live)
    answer = await asked(live, "free")
    assert answer.status_code == 200
    assert "x-guard-flagged" not in answer.headers
    assert reads(live) == before
    clear = await asked(live, "clear")
    assert (clear.status_code, reads(live)) == (200, before + len("secret") + 2)
    assert "x-guard-flagged" not in clear.headers
    assert clear.json()["usage"] == answer.json()["usage"]


async def test_every_message_is_read_once(live: LiveService) -> None:
    before = reads(live)
    said = [{"role": role, "content": text} for role, text in (("user", "ab"), ("system", "c"))]
    assert (await asked(live, "clear", prompt=None, messages=said * 2)).status_code == 200
    assert reads(live) == before + 4 + 3


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"type": "choice", "choice": ["ab", "cd"]}, "ab, cd"),
        ({"type": "regex", "regex": "(ab|cd) [0-9]"}, "ab, cd"),
        ({"type": "json_schema", "json_schema": {"properties": {"ab": {"const": "cd"}}}}, "ab\ncd"),
        ({"type": "text"}, None),
    ],
)
async def test_a_structure_is_read_as_one_text(
    live: LiveService, wanted: dict[str, Any], text: str | None
) -> None:
    before = reads(live)
    await asked(live, "clear", response_format=wanted)  # this engine makes choices only
    lengths = [len(each) + 2 for each in ("secret", text) if each]
    assert reads(live) == before + sum(lengths)
    error = refusal(await asked(live, "refused", response_format=wanted), 400)
    assert error["code"] == "input_flagged"


async def test_what_the_base_model_is_asked_about_texts_is_read(live: LiveService) -> None:
    body = {"model": MODEL, "input": ["ab", "cde"], "candidate_labels": ["x", "y"]}
    before = reads(live)
    async with live.client() as client:
        asked = body | {"instruction": "sort"}
        clear = await client.post("/v1/classify", json=asked, headers=bearer("clear"))
        assert clear.status_code == 200, clear.text
        assert reads(live) == before + sum(len(each) + 2 for each in ("ab", "cde", "sort", "x, y"))
        flagged = await client.post("/v1/classify", json=body, headers=bearer("flagged"))
        assert flagged.headers["x-guard-flagged"]
        started = live.engine.starts
        error = refusal(
            await client.post("/v1/classify", json=body, headers=bearer("refused")), 400
        )
    assert (error["code"], live.engine.starts) == ("input_flagged", started)


async def test_a_failed_guard_refuses_or_passes(live: LiveService) -> None:
    admission = live.encoders["classify"].admission
    admission.close(EngineDead)
    try:
        error = refusal(await asked(live, "clear"), 503)
        assert (error["code"], error["param"]) == ("guard_failed", None)
        assert (await asked(live, "passed")).status_code == 200
        assert (await asked(live, "free")).status_code == 200
    finally:
        admission.open()
    for verdict in ("failed", "passed"):
        assert live.value("inference_guard_checks_total", verdict=verdict) >= 1


async def test_what_no_guard_can_read_is_never_passed(live: LiveService) -> None:
    error = refusal(await asked(live, "passed", prompt="x" * 400 * MAX_MODEL_LEN), 400)
    assert error["code"] == "guard_unreadable"


def test_policies_of_tenants_need_keys_and_known_guards() -> None:
    for guards, problem in (
        ({"named": GUARDS, "tenants": TENANTS}, "guards.tenants: needs"),
        ({"named": GUARDS, "default": {"input": ["nver"]}}, "did you mean 'never'"),
    ):
        with pytest.raises(ValueError, match=problem):
            LiveService(guards=guards)
