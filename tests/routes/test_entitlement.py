"""Models that a tenant may not use do not exist for it, on every route."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters.proven import failing, proven, served_base, sources
from tests.adapters.samples import write_base
from tests.answers import refusal
from tests.live_service import MODEL, LiveService
from tools.keys import bearer, entry, write_keys

BODIES: dict[str, dict[str, Any]] = {
    "/v1/generate": {"prompt": "Hello", "max_tokens": 2},
    "/v1/classify": {"input": "Hello"},
    "/v1/tokenize": {"prompt": "Hello"},
    "/v1/detokenize": {"tokens": [72]},
}
LABELS = {"candidate_labels": ["a", "b"]}

MAY: dict[str, set[str]] = {
    "all": {MODEL, "one", "two", "broken"},
    "base-only": {MODEL},
    "one-only": {"one"},
    "broken-only": {"broken"},
    "both": {"one", "two"},
    "nothing": set(),
}
NAMES = (MODEL, "one", "one@1.0.0", "two", "two@1.0.0", "broken", "broken@1.0.0", "none", "none@1")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    root = tmp_path_factory.mktemp("entitlement")
    folder = write_base(root / "base")
    base = served_base(folder)

    async def write() -> None:
        await proven(root / "one", base, name="one")
        await proven(root / "two", base, name="two", seed=1)
        failing(await proven(root / "broken", base, name="broken", seed=2))

    asyncio.run(write())
    one, *others = sources(*(root / name for name in ("one", "two", "broken")))
    with LiveService(
        model_path=folder,
        adapters=[one | {"show_examples": True}, *others],
        adapters_on_failure="quarantine",
        adapter_cache={"path": root / "cache"},
        tenants={"keys": _keys(root / "keys")},
    ) as service:
        yield service


def _keys(path: Path) -> Path:
    tenants = [
        entry(
            name,
            models=[MODEL] if MODEL in may else [],
            adapters="*" if name == "all" else sorted(may - {MODEL}),
        )
        for name, may in MAY.items()
    ]
    return write_keys(path, *tenants)


async def ask(client: httpx.AsyncClient, tenant: str, route: str, name: str) -> httpx.Response:
    extra = LABELS if route == "/v1/classify" and name == MODEL else {}
    body = {"model": name, **BODIES[route], **extra}
    return await client.post(route, json=body, headers=bearer(tenant))


def expected(tenant: str, name: str) -> int:
    plain = name.partition("@")[0]
    if plain not in MAY[tenant]:
        return 404
    return 503 if plain == "broken" else 200


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("tenant", MAY)
async def test_each_route_serves_what_the_tenant_may_use_and_knows_nothing_else(
    live: LiveService, tenant: str, route: str
) -> None:
    async with live.client() as client:
        answers = {name: await ask(client, tenant, route, name) for name in NAMES}
    found = {name: answer.status_code for name, answer in answers.items()}
    assert found == {name: expected(tenant, name) for name in NAMES}


@pytest.mark.parametrize("route", BODIES)
async def test_a_name_that_is_another_tenants_is_answered_as_one_that_nobody_has(
    live: LiveService, route: str
) -> None:
    async with live.client() as client:
        wrong = await ask(client, "nothing", route, "none")
        for name in (MODEL, "one", "two@1.0.0", "broken"):
            hidden = await ask(client, "nothing", route, name)
            assert _told(hidden, name) == _told(wrong, "none")
    assert refusal(wrong, 404)["code"] == "model_not_found"


def _told(answer: httpx.Response, name: str) -> tuple[int, set[str], dict[str, Any]]:
    error = answer.json()["error"]
    assert name in error.pop("message")
    del error["request_id"]
    return answer.status_code, set(answer.headers), error


async def test_the_list_of_adapters_holds_the_tenants_own(live: LiveService) -> None:
    async with live.client() as client:
        for tenant, may in MAY.items():
            listed = (await client.get("/v1/adapters", headers=bearer(tenant))).json()["data"]
            assert {entry["name"] for entry in listed} == may - {MODEL}


async def test_a_tenant_gets_the_bills_of_its_own_adapters(live: LiveService) -> None:
    async with live.client() as client:
        for name in ("one", "two", "two@1.0.0"):
            for tenant, may in MAY.items():
                answer = await client.get(f"/v1/adapters/{name}/bom", headers=bearer(tenant))
                its = name.partition("@")[0] in may
                assert answer.status_code == (200 if its else 404)


async def test_a_streamed_answer_is_refused_with_its_status_too(live: LiveService) -> None:
    body = {"model": "one", "prompt": "Hello", "max_tokens": 2, "stream": True}
    async with live.client() as client:
        answer = await client.post("/v1/generate", json=body, headers=bearer("base-only"))
        refusal(answer, 404)
        lines = {"accept": "application/x-ndjson"} | bearer("base-only")
        answer = await client.post(
            "/v1/classify", json={"model": "one", "input": "x"}, headers=lines
        )
        refusal(answer, 404)


async def test_only_who_may_use_an_adapter_sees_its_examples_where_the_settings_show_them(
    live: LiveService,
) -> None:
    async with live.client() as client:
        for tenant, may in MAY.items():
            listed = (await client.get("/v1/adapters", headers=bearer(tenant))).json()["data"]
            shown = {each["name"]: each["examples"] for each in listed}
            assert [*shown] == sorted(may - {MODEL})
            assert all("input" in example for example in shown.pop("one", None) or ())
            assert {*shown.values()} <= {None}
        one = (await client.get("/v1/adapters", headers=bearer("one-only"))).json()["data"][0]
        body = {"model": "one", **one["examples"][0]}
        assert (await client.post("/v1/classify", json=body, headers=bearer("one-only"))).is_success
