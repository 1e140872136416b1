"""Adapters over HTTP: listed, proven, refused by every route, and replaced under load."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import eventually
from service.admission.controller import AdmissionController
from service.app import create_app
from service.errors import ConfigurationError
from service.generation.served_model import ServedModel as Engine
from service.runtime.status import Phase, Status
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from tests.adapters.proven import failing, proven, served_base, sources
from tests.adapters.samples import write_base
from tests.answers import events_of, refusal
from tests.fake_engines import fake_engine
from tests.live_service import MODEL, LiveService

BODIES: dict[str, dict[str, Any]] = {
    "/v1/generate": {"prompt": "Hello", "max_tokens": 8},
    "/v1/classify": {"input": "Hello"},
    "/v1/tokenize": {"prompt": "Hello"},
    "/v1/detokenize": {"tokens": [72]},
}


@pytest.fixture
def live(tmp_path: Path) -> LiveService:
    """A service, not started, with one good adapter and one whose proof fails."""
    base_folder = write_base(tmp_path / "base")
    base = served_base(base_folder)

    async def write() -> None:
        await proven(tmp_path / "good", base, name="good")
        failing(await proven(tmp_path / "bad", base, name="bad", seed=1))

    asyncio.run(write())
    return LiveService(
        model_path=base_folder,
        token_seconds=0.001,
        adapters=sources(tmp_path / "good", tmp_path / "bad"),
        adapters_on_failure="quarantine",
        adapter_cache={"path": tmp_path / "cache"},
    )


@pytest.fixture
async def running(live: LiveService) -> AsyncGenerator[LiveService, None]:
    with live:
        yield live


async def test_without_adapters_the_list_is_empty(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/adapters")).json() == {"object": "list", "data": []}


async def test_the_list_shows_proofs_and_quarantines_and_no_path(
    running: LiveService, tmp_path: Path
) -> None:
    async with running.client() as client:
        response = await client.get("/v1/adapters")
    bad, good = response.json()["data"]
    assert (good["name"], good["state"], good["version"]) == ("good", "serving", "1.0.0")
    assert good["task"] == "classification"
    assert good["labels"] == ["positive", "negative"]
    assert (good["proof"]["passed"], good["proof"]["total"]) == (4, 4)
    assert good["digest"].startswith("sha256:")
    assert {"input"} == {key for example in good["examples"] for key in example}
    assert (bad["name"], bad["state"], bad["proof"]) == ("bad", "quarantined", None)
    assert bad["examples"] is None
    assert "0 of 4 right" in bad["reason"]
    assert str(tmp_path) not in response.text


async def test_a_served_adapter_has_a_bill_of_materials_and_the_service_too(
    running: LiveService,
) -> None:
    async with running.client() as client, httpx.AsyncClient(trust_env=False) as ops:
        answers = [await client.get(f"/v1/adapters/{name}/bom") for name in ("good", "good@1.0.0")]
        assert {each.status_code for each in answers} == {200}
        assert answers[0].headers["content-type"] == "application/vnd.cyclonedx+json; version=1.6"
        assert answers[0].json() == answers[1].json()
        assert answers[0].json()["metadata"]["component"]["bom-ref"] == "good@1.0.0"
        refusal(await client.get("/v1/adapters/bad/bom"), 503)
        for name in ("other", "good@2", MODEL):
            assert refusal(await client.get(f"/v1/adapters/{name}/bom"), 404)["param"] == "model"
        bill = (await ops.get(f"{running.ops_url}/bom")).json()
    assert bill["metadata"]["component"]["name"] == "llm-service"
    assert {MODEL, "good@1.0.0"} <= {each["bom-ref"] for each in bill["components"]}


async def test_every_route_refuses_what_is_quarantined(running: LiveService) -> None:
    async with running.client() as client:
        for route, body in BODIES.items():
            for name in ("bad", "bad@1.0.0"):
                error = refusal(await client.post(route, json={"model": name, **body}), 503)
                assert error["code"] == "adapter_quarantined"
    assert running.engine.starts == 0


@pytest.mark.parametrize(
    "name",
    [
        *("Good", "goo", "goods", "good ", "good@", "good@1", "good@1.0.1", f"{MODEL}@1.0.0", ""),
        *("./good", "../good", "/etc", "hf://org/good", "https://example.com/good"),
    ],
)
async def test_no_route_takes_a_name_that_is_not_one(running: LiveService, name: str) -> None:
    async with running.client() as client:
        for route, body in BODIES.items():
            error = refusal(await client.post(route, json={"model": name, **body}), 404)
            assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert running.engine.starts == 0


async def test_no_request_loads_an_adapter(running: LiveService, tmp_path: Path) -> None:
    body = {"lora_name": "mine", "lora_path": str(tmp_path / "good")}
    async with running.client() as client:
        for url in (running.url, running.ops_url):
            for name in ("load_lora_adapter", "unload_lora_adapter"):
                answer = await client.post(f"{url}/v1/{name}", json=body)
                assert answer.status_code == 404
        listed = (await client.get("/v1/adapters")).json()["data"]
    assert {each["name"] for each in listed} == {"good", "bad"}


async def test_an_answer_comes_from_the_adapter_and_names_what_was_asked_for(
    running: LiveService,
) -> None:
    texts = {}
    async with running.client() as client:
        for name in (MODEL, "good", "good@1.0.0"):
            answer = (await client.post("/v1/generate", json=_greedy(name))).json()
            assert answer["model"] == name
            texts[name] = answer["outputs"][0]["text"]
    assert texts["good"] == texts["good@1.0.0"] != texts[MODEL]


async def test_streams_run_on_while_their_adapter_is_replaced(
    running: LiveService, tmp_path: Path
) -> None:
    base = served_base(tmp_path / "base")
    whole: set[str] = set()
    streamed: list[str] = []
    done = asyncio.Event()

    async def stream(client: httpx.AsyncClient) -> None:
        while not done.is_set():
            events = events_of(await client.post("/v1/generate", json=_greedy("good", stream=True)))
            assert events[-1] == "[DONE]"
            streamed.append("".join(e["text"] for e in events[:-2]))

    async with running.client() as client, httpx.AsyncClient(trust_env=False) as ops:
        whole.add(
            (await client.post("/v1/generate", json=_greedy("good"))).json()["outputs"][0]["text"]
        )
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(stream(client))
            for version in range(2, 7):
                await proven(
                    tmp_path / "good", base, name="good", version=f"{version}.0.0", seed=version
                )
                answer = await ops.post(f"{running.ops_url}/adapters/reload")
                assert answer.json()["loaded"] == [f"good@{version}.0.0"]
                whole.add(await _text(client))
            done.set()
        assert len(whole) == 6
        assert set(streamed) <= whole
        await eventually(lambda: len(running.engine._weights) == 1)
    assert running.value("inference_adapter_reloads_total", outcome="ok") == 5


async def test_a_refused_reload_answers_in_the_one_error_shape(
    running: LiveService, tmp_path: Path
) -> None:
    base = served_base(tmp_path / "base")
    failing(await proven(tmp_path / "good", base, name="good", version="2.0.0", seed=5))
    async with running.client() as client, httpx.AsyncClient(trust_env=False) as ops:
        response = await ops.post(f"{running.ops_url}/adapters/reload")
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "adapter_refused"
        assert "0 of 4 right" in response.json()["error"]["message"]
        answer = await client.post("/v1/generate", json=_greedy("good@1.0.0"))
        assert answer.status_code == 200


async def test_one_reload_runs_at_a_time(running: LiveService, tmp_path: Path) -> None:
    base = served_base(tmp_path / "base")
    await proven(tmp_path / "good", base, name="good", version="2.0.0", seed=5)
    async with httpx.AsyncClient(trust_env=False) as ops:
        running.engine.frozen = True
        first = asyncio.create_task(ops.post(f"{running.ops_url}/adapters/reload"))
        await eventually(lambda: running.admission.in_flight > 0)
        second = await ops.post(f"{running.ops_url}/adapters/reload")
        running.engine.frozen = False
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "reload_in_progress"
        assert (await first).json()["loaded"] == ["good@2.0.0"]


async def test_a_failing_adapter_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    base_folder = write_base(tmp_path / "base")
    failing(await proven(tmp_path / "bad", served_base(base_folder), name="bad"))
    settings = Settings(
        model=ModelSettings(name=MODEL, path=base_folder),
        adapters=sources(tmp_path / "bad"),
        adapter_cache={"path": tmp_path / "cache"},
    )
    status = Status()
    engine, _ = fake_engine()

    async def start(settings: Settings, admission: AdmissionController, metrics: Metrics) -> Engine:
        return engine

    app = create_app(settings, status, CollectorRegistry(), start)
    with pytest.raises(ConfigurationError, match=r"adapter bad: .*0 of 4 right"):
        async with app.router.lifespan_context(app):
            pass
    assert isinstance(status.failure, ConfigurationError)
    assert status.phase is Phase.STARTING
    assert engine.raw.dead


async def _text(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/generate", json=_greedy("good"))
    text: str = answer.json()["outputs"][0]["text"]
    return text


def _greedy(model: str, **others: object) -> dict[str, object]:
    return {"model": model, "prompt": "Tell", "max_tokens": 32, "temperature": 0, **others}


async def test_the_first_page_names_adapters_and_what_is_quarantined(running: LiveService) -> None:
    async with running.client() as client:
        page = (await client.get("/", headers={"accept": "text/html"})).text
    assert '<th scope="row">good</th><td>adapter that classifies, 2 labels</td>' in page
    assert '<th scope="row">bad</th><td>adapter, quarantined</td>' in page
