"""Tenants on the real engine: keys, entitlement on every route, and caches kept apart."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from prometheus_client import CollectorRegistry

from loadtests.processes import wait_until
from service.admission.admitted import Admitted
from service.admission.controller import AdmissionController
from service.context import enter_context, internal_context
from service.engine.contract import Job, Sampling
from service.generation.fold import Fold
from service.settings.admission import AdmissionSettings
from service.telemetry.metrics import Metrics
from service.tenants.tenant import Tenant
from tests.answers import refusal
from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server
from tools.keys import bearer, entry, key_of, write_keys

# Longer than two blocks of the CPU build's cache; a prompt shorter than a block is never cached.
LONG = "The history of the sea, told by those who crossed it in small boats. " * 24
ADAPTERS = ("one", "two")

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/generate": {"prompt": "Hello", "max_tokens": 2},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 2},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/classify": {"input": "Hello", "candidate_labels": ["a", "b"], "calibrate": False},
    "/v1/tokenize": {"prompt": "Hello"},
    "/v1/detokenize": {"tokens": [72]},
    "/v1/chat/completions/render": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions/render": {"prompt": "Hello"},
    "/v1/responses/render": {"input": "Hi"},
}
MAY: dict[str, set[str]] = {
    "all": {"tiny", "one", "two"},
    "base": {"tiny"},
    "first": {"one"},
    "both": {"one", "two"},
    "nothing": set(),
}
QUOTA = 400
CAUTIOUS = {"/v1/responses": "responder", "/v1/messages": "messenger"}
"""Tenants with this quota, each for one route."""
LEAVERS_QUOTA = 4000


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("tenants")
    maker = LoraMaker(tiny_folder, "tiny")
    for seed, name in enumerate(ADAPTERS):
        maker.write(
            root / name, name=name, version="1.0.0", seed=seed, prompts=["Tell me."], tokens=4
        )
    engine: dict[str, Any] = {"max_lora_rank": 8, "tool_call_parser": "hermes"}
    config = tiny_config(tiny_folder, max_num_seqs=16, **engine)
    config |= PATIENT | {
        "adapters": [{"source": str(root / name)} for name in ADAPTERS],
        "adapter_cache": {"path": str(root / "cache")},
        "tenants": {"keys": str(_keys(root / "keys.yaml"))},
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as running:
        yield running


def _keys(path: Path) -> Path:
    tenants = [
        entry(name, models=sorted(may & {"tiny"}), adapters=sorted(may - {"tiny"}))
        for name, may in MAY.items()
    ]
    grouped = [entry(name, salt_group="friends") for name in ("friend", "other-friend")]
    cautious = [
        entry(name, quotas={"tokens_per_day": QUOTA}) for name in ("cautious", *CAUTIOUS.values())
    ]
    leaver = entry("leaver", quotas={"tokens_per_day": LEAVERS_QUOTA})
    return write_keys(path, *tenants, *grouped, entry("stranger"), *cautious, leaver)


def post(server: Server, tenant: str, route: str, body: dict[str, Any]) -> httpx.Response:
    return server.post(route, body, headers=bearer(tenant))


def test_every_tenants_calls_are_of_its_own_tools(server: Server) -> None:
    def call(tenant: str) -> tuple[str, Any]:
        properties = {"of": {"enum": [tenant]}}
        schema = {"type": "object", "properties": properties, "required": ["of"]}
        tool = {"type": "function", "function": {"name": f"{tenant}_tool", "parameters": schema}}
        body = ROUTES["/v1/chat/completions"] | {"model": "tiny", "max_tokens": 128}
        body |= {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
        answer = post(server, tenant, "/v1/chat/completions", body).json()
        (made,) = answer["choices"][0]["message"]["tool_calls"]
        return made["function"]["name"], json.loads(made["function"]["arguments"])

    tenants = ["all", "base"] * 4
    with ThreadPoolExecutor(len(tenants)) as pool:
        found = list(pool.map(call, tenants))
    assert found == [(f"{tenant}_tool", {"of": tenant}) for tenant in tenants]
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = ROUTES["/v1/chat/completions"] | {"model": "one", "tools": tools}
    refusal(post(server, "base", "/v1/chat/completions", body), 404)


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_needs_a_key_and_serves_what_the_tenant_may_use(
    server: Server, route: str
) -> None:
    body = ROUTES[route]
    refusal(server.post(route, {"model": "tiny", **body}), 401)
    for tenant, may in MAY.items():
        for name in ("tiny", "one", "two@1.0.0", "none"):
            answer = post(server, tenant, route, {"model": name, **body})
            if name.partition("@")[0] not in may:
                assert refusal(answer, 404)["code"] == "model_not_found", (tenant, name)
            elif route == "/v1/classify" and name != "tiny":
                refusal(answer, 400)  # an adapter that the tenant may use, for generation
            else:
                assert answer.status_code == 200, (tenant, name, answer.text)


def test_the_lists_hold_what_the_tenant_may_use(server: Server) -> None:
    for path in ("/v1/models", "/v1/adapters"):
        assert httpx.get(server.url + path).status_code == 401
    for tenant, may in MAY.items():
        models = httpx.get(f"{server.url}/v1/models", headers=bearer(tenant)).json()["data"]
        assert {card["id"] for card in models} == may
        assert {card["parent"] for card in models} <= may | {None}
        adapters = httpx.get(f"{server.url}/v1/adapters", headers=bearer(tenant)).json()["data"]
        assert {adapter["name"] for adapter in adapters} == may - {"tiny"}


def cached(server: Server, tenant: str, kind: str, model: str, text: str) -> int:
    """Prompt tokens that the engine's cache served for a text, asked by one of the routes."""
    if kind == "generate":
        body: dict[str, Any] = {"model": model, "prompt": text, "max_tokens": 1}
        usage = post(server, tenant, "/v1/generate", body).json()["usage"]
        return int(usage["cached_tokens"])
    if kind == "classify":
        body = ROUTES["/v1/classify"] | {"model": model, "input": text}
        usage = post(server, tenant, "/v1/classify", body).json()["usage"]
        return int(usage["cached_tokens"])
    if kind == "response":
        body = {"model": model, "input": text, "max_output_tokens": 1}
        usage = post(server, tenant, "/v1/responses", body).json()["usage"]
        return int(usage["input_tokens_details"]["cached_tokens"])
    body = {"model": model, "max_tokens": 1}
    if kind == "message":
        body["messages"] = [{"role": "user", "content": text}]
        usage = post(server, tenant, "/v1/messages", body).json()["usage"]
        return int(usage["cache_read_input_tokens"])
    if kind == "chat":
        body["messages"] = [{"role": "user", "content": text}]
        answer = post(server, tenant, "/v1/chat/completions", body)
    else:
        answer = post(server, tenant, "/v1/completions", body | {"prompt": text})
    assert answer.status_code == 200, answer.text
    details = answer.json()["usage"]["prompt_tokens_details"] or {}
    return int(details.get("cached_tokens") or 0)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("generate", "tiny"),
        ("generate", "one"),
        ("chat", "tiny"),
        ("chat", "one"),
        ("response", "tiny"),
        ("response", "one"),
        ("message", "tiny"),
        ("message", "one@1.0.0"),
        ("completion", "tiny"),
        ("completion", "one@1.0.0"),
        ("classify", "tiny"),
    ],
)
def test_no_cached_token_crosses_tenants_and_ones_own_are_found(
    server: Server, kind: str, model: str
) -> None:
    text = f"{kind} {model} {LONG}"
    assert cached(server, "friend", kind, model, text) == 0
    own = cached(server, "friend", kind, model, text)
    assert own > 0
    assert cached(server, "stranger", kind, model, text) == 0
    assert cached(server, "all", kind, model, text) == 0
    assert cached(server, "other-friend", kind, model, text) == own  # of the same group
    assert cached(server, "stranger", kind, model, text) == own


class SaltsSeen:
    """Stands in for an engine and keeps the salts of its jobs."""

    def __init__(self) -> None:
        self.salts: list[str] = []

    async def run(self, job: Job, _: Any) -> None:
        self.salts.append(job.cache_salt)


async def test_a_salt_that_comes_with_a_job_is_overwritten() -> None:
    seen: Any = SaltsSeen()
    metrics = Metrics(CollectorRegistry())
    admitted = Admitted(
        seen, AdmissionController(AdmissionSettings(), metrics.of_engine("fake"), 4), metrics
    )
    for name in ("a", "a", "b"):
        context = internal_context("test", 600.0)
        context.tenant = Tenant(name)
        enter_context(context)
        job = Job([1], Sampling(max_tokens=1), cache_salt="the client's")
        await admitted.run(job, Fold())
    first, again, other = seen.salts
    assert first == again != other
    assert "the client's" not in seen.salts


def test_openais_client_understands_every_refusal(server: Server) -> None:
    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)

    prompt: dict[str, Any] = {"model": "tiny", "prompt": "Hello"}
    with client("sk-wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.completions.create(**prompt, max_tokens=2)
    with client(key_of("first")) as first:
        assert [model.id for model in first.models.list()] == ["one"]
        with pytest.raises(openai.NotFoundError):
            first.completions.create(**prompt, max_tokens=2)
    with client(key_of("cautious")) as cautious:
        with pytest.raises(openai.BadRequestError, match=f"{QUOTA} tokens a day"):
            cautious.completions.create(**prompt, max_tokens=QUOTA)
        used = 0

        def spend() -> None:
            nonlocal used
            while True:
                answer = cautious.completions.create(**prompt, max_tokens=100)
                assert answer.usage
                used += answer.usage.total_tokens

        with pytest.raises(openai.RateLimitError, match=f"{QUOTA} tokens a day") as refused:
            spend()
        assert QUOTA - 110 < used <= QUOTA
        assert int(refused.value.response.headers["retry-after"]) > 0
        with pytest.raises(openai.RateLimitError):
            cautious.completions.create(**prompt, max_tokens=100, stream=True)


@pytest.mark.parametrize("route", CAUTIOUS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_quota_is_one_on_every_route(server: Server, route: str, stream: bool) -> None:
    tenant, longest = CAUTIOUS[route], {"/v1/responses": "max_output_tokens"}.get(route)
    body = {"model": "tiny", "stream": stream} | ROUTES[route] | {longest or "max_tokens": 100}
    answers = [post(server, tenant, route, body) for _ in range(8)]
    assert {answer.status_code for answer in answers} <= {200, 429}
    error = refusal(answers[-1], 429)
    assert (error["code"], error["type"]) == ("quota_exceeded", "rate_limit_error")
    assert int(answers[-1].headers["retry-after"]) > 0


def test_anthropics_client_understands_refusals_and_sends_its_own_header(server: Server) -> None:
    hello: Any = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}

    def client(key: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0)

    with client("sk-wrong") as stranger, pytest.raises(anthropic.AuthenticationError) as refused:
        stranger.messages.create(model="tiny", **hello)
    assert refused.value.type == "authentication_error"
    with client(key_of("first")) as first:
        assert first.messages.create(model="one", **hello).model == "one"
        with pytest.raises(anthropic.NotFoundError) as unknown:
            first.messages.create(model="tiny", **hello)
    assert unknown.value.request_id == unknown.value.response.headers["x-request-id"]


def test_what_a_client_got_before_it_left_is_charged_whichever_of_its_prompts_it_was_of(
    server: Server,
) -> None:
    body = {"model": "tiny", "prompt": ["Tell", "me"] * 2, "max_tokens": 900, "ignore_eos": True}
    before = used(server)
    with httpx.stream(
        "POST",
        f"{server.url}/v1/completions",
        json=body | {"stream": True},
        headers=bearer("leaver"),
        timeout=600,
    ) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        for _ in range(200):
            next(lines)
    wait_until(lambda: server.metric("inference_requests_in_flight") == 0, 300, "the end")
    spent = used(server) - before
    assert spent > 100
    each = int(LEAVERS_QUOTA - spent) // 2
    rest = {"model": "tiny", "prompt": ["Tell", "me"], "max_tokens": each}
    refused = post(server, "leaver", "/v1/completions", rest)
    assert refusal(refused, 429)["code"] == "quota_exceeded"


def used(server: Server) -> float:
    """Tokens that the service counted since it started."""
    return server.metric("inference_tokens_total")


def test_no_key_is_in_the_log(server: Server) -> None:
    log = server.log.read_text()
    assert "callers need a key" in log
    assert not [
        tenant
        for tenant in (*MAY, "stranger", "cautious", *CAUTIOUS.values())
        if key_of(tenant) in log
    ]
    assert "sk-wrong" not in log
