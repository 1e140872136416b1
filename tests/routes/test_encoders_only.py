"""A service of encoders alone, over fake ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.runtime.status import Phase
from service.settings.tree import TenantSettings, WatchdogSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

ENCODERS = [{"name": name, "path": "unused"} for name in ("embed", "score", "classify")]
GENERATE = {"model": "embed", "prompt": "a"}


@pytest.fixture(scope="module")
def alone() -> Iterator[LiveService]:
    with LiveService(model=None, encoders=ENCODERS) as live:
        yield live


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "embed", "input": "a"}),
        ("/v1/rerank", {"model": "score", "query": "a", "documents": ["b"]}),
        ("/v1/classify", {"model": "classify", "input": "a"}),
        ("/v1/tokenize", {"model": "score", "prompt": "a"}),
    ],
)
async def test_encoders_are_served(alone: LiveService, path: str, body: dict[str, Any]) -> None:
    async with alone.client() as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/v1/adapters")).json()["data"] == []


@pytest.mark.parametrize("body", [GENERATE, {"model": "fake"}, "no object"])
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/detokenize", "/detokenize"])
async def test_a_route_of_language_models_says_what_is_served(
    alone: LiveService, path: str, body: Any
) -> None:
    async with alone.client() as client:
        error = refusal(await client.post(path, json=body), 404)
    assert error["code"] == "model_not_found"
    assert error["message"] == (
        "This service has no language model. Its encoders are 'embed' for /v1/embeddings, "
        "/v1/rerank or /v1/score; 'score' for /v1/rerank or /v1/score; 'classify' for /v1/classify"
    )


async def test_names_of_others_are_not_told(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a", models=["score"]), entry("b", models=[]))
    with LiveService(model=None, encoders=ENCODERS, tenants=TenantSettings(keys=keys)) as live:
        async with live.client() as client:
            one = await client.post("/v1/generate", json=GENERATE, headers=bearer("a"))
            none = await client.post("/v1/generate", json=GENERATE, headers=bearer("b"))
    assert "'score'" in refusal(one, 404)["message"]
    assert "embed" not in one.text
    assert refusal(none, 404)["message"] == "This service has no language model"


async def test_routes_of_both_refuse_unknown_names(alone: LiveService) -> None:
    async with alone.client() as client:
        for path in ("/v1/classify", "/v1/embeddings"):
            answer = await client.post(path, json={"model": "fake", "input": "a"})
            assert "model: 'fake' is not served here" in refusal(answer, 404)["message"]
        unnamed = await client.post("/v1/tokenize", json={"prompt": "a"})
    assert refusal(unnamed, 400)["param"] == "model"


async def test_the_description_has_the_routes_that_are_served(alone: LiveService) -> None:
    async with alone.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v1/embeddings", "/v1/rerank", "/v1/classify", "/v1/tokenize"} <= paths.keys()
    assert not {"/v1/generate", "/v1/detokenize"} & paths.keys()


async def test_series_probes_and_reload(alone: LiveService) -> None:
    assert alone.value("inference_build_info", model="") == 1
    assert alone.value("inference_encoder_info", model="embed") == 1
    assert alone.value("inference_admission_limit", engine="score") > 0
    async with httpx.AsyncClient(base_url=alone.ops_url) as ops:
        for path in ("/livez", "/startupz", "/readyz"):
            assert (await ops.get(path)).status_code == 200
        change = await ops.post("/adapters/reload")
    assert change.json() == {"loaded": [], "unchanged": [], "removed": [], "quarantined": []}


async def test_a_stalled_encoder_takes_the_service_out_of_rotation() -> None:
    hasty = WatchdogSettings(stall_s=0.5, probe_s=0.1)
    with LiveService(model=None, encoders=ENCODERS[:1], watchdog=hasty) as live:
        live.encoders["embed"].frozen = True
        await eventually(lambda: not live.status.ready)
        live.encoders["embed"].frozen = False
        await eventually(lambda: live.status.ready)
        live.encoders["embed"].dead = True
        await eventually(lambda: live.status.phase is Phase.STOPPING)
