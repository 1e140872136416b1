"""Two replicas without engines, before two servers of vLLM's own behind vllm-router.

    make remote

Answers, streams and labels beside those of an engine in the service's own process, an adapter on
both engines, a hang-up, a light tenant beside a flood, an engine that is killed under load, and
what the way through a replica costs. Prints a line for each.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from loadtests.processes import PATIENCE_S, wait_until
from tests.fleet.crowd import FAILED, OK, REFUSED, SILENT, crowd
from tests.fleet.replicas import Replica, replicas
from tests.fleet.routers import MODEL, ROUTERS
from tests.fleet.vllm_servers import ALLOWS_LOADING, VllmServer, vllm_servers
from tests.options import check_options, given
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.lora import LoraMaker
from tests.served.server import Server, started_server
from tests.served.tiny import build_tiny_model
from tools.keys import bearer, entry, key_of, write_keys

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(0)]

_SECONDS = 120
_SLOTS = 8
_ADAPTER = "sea"
_PROMPTS = ["Tell me about the sea.", "Once upon a time"]
_HEAVY, _LIGHT = "heavy", "light"
_TEXTS = ("I want my money back", "How do I log in?", "Great work, thank you!", "")
_LABELS = ["refund", "login", "praise"]
_TOKENS, _STREAMS = 64, 40


@dataclass(frozen=True)
class Setup:
    """What runs: replicas, the engines behind them, and a service with an engine of its own."""

    replicas: list[Replica]
    engines: list[VllmServer]
    reference: Server
    golden: list[str]

    def post(self, path: str, body: Mapping[str, Any], tenant: str = _LIGHT) -> Any:
        """The answers of each replica, and last that of the reference; each must be 200."""
        urls = [*(each.url for each in self.replicas), self.reference.url]
        return [_post(url + path, body, tenant) for url in urls]


def _post(url: str, body: Mapping[str, Any], tenant: str = _LIGHT) -> Any:
    answer = httpx.post(url, json=body, timeout=_SECONDS, headers=bearer(tenant))
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:300]}"
    return answer.json()


@pytest.fixture(scope="module")
def setup() -> Iterator[Setup]:
    given(check_options("remote", __doc__))
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(ALLOWS_LOADING, "1")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build_tiny_model(SMOLLM2, model := folder / "model")
        golden = LoraMaker(model, MODEL).write(
            folder / _ADAPTER, name=_ADAPTER, version="1.0.0", seed=1, prompts=_PROMPTS, tokens=8
        )
        engines = stack.enter_context(vllm_servers(model, 2))
        urls = [each.url for each in engines]
        (folder / "router").mkdir()
        router = stack.enter_context(ROUTERS["vllm-router"].started(folder / "router", urls))
        config = _config(folder)
        remote = {"client": "remote", "max_model_len": 2048, "max_num_seqs": _SLOTS}
        reached = {"remote": {"url": router.url, "engines": urls}}
        pair = stack.enter_context(replicas(folder, config | {"engine": remote} | reached))
        (folder / "reference").mkdir()
        own = ENGINE | {"dtype": "float32", "max_num_seqs": _SLOTS, "max_lora_rank": 8}
        reference = started_server(folder / "reference", config | {"engine": own})
        yield Setup(pair, engines, stack.enter_context(reference), golden)


def _config(folder: Path) -> dict[str, Any]:
    keys = write_keys(folder / "keys.json", entry(_HEAVY), entry(_LIGHT))
    return {
        "model": {"name": MODEL, "path": str(folder / "model")},
        "admission": {"max_queued": 64, "max_wait_ms": 600_000, "target_token_ms": None},
        "tenants": {"keys": str(keys)},
        "adapters": [{"source": str(folder / _ADAPTER)}],
        "adapter_cache": {"path": str(folder / "cache")},
        "watchdog": {"stall_s": 60},
    }


def _tell(what: str, figure: str) -> None:
    print(f"remote: {what}: {figure}", flush=True)


def test_answers_are_those_of_an_engine_in_the_process(setup: Setup) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 24, "temperature": 0}
    for more in ({}, {"logprobs": True, "top_logprobs": 3}, {"stop": ["e"]}):
        *found, wanted = setup.post("/v1/chat/completions", {"model": MODEL} | chat | more)
        for each in found:
            assert each["choices"][0]["message"] == wanted["choices"][0]["message"]
            assert each["usage"]["completion_tokens"] == wanted["usage"]["completion_tokens"]
    choice = {"structured_outputs": {"choice": ["red", "green"]}}
    *found, wanted = setup.post("/v1/chat/completions", {"model": MODEL} | chat | choice)
    for each in found:
        assert each["choices"][0]["message"] == wanted["choices"][0]["message"]
    _tell("chats, with log-probabilities, a stop string, a choice", "as in the process")


def test_streams_are_the_whole_answer(setup: Setup) -> None:
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 32, "temperature": 0}
    *_, wanted = setup.post("/v1/completions", body)
    for replica in setup.replicas:
        texts, pieces = _streamed(replica.url, body)
        assert texts == wanted["choices"][0]["text"]
        assert pieces > 8
    _tell("streams", "as in the process, token by token")


def _streamed(url: str, body: Mapping[str, Any], tenant: str = _LIGHT) -> tuple[str, int]:
    texts, lines = [], []
    with httpx.stream(
        "POST",
        f"{url}/v1/completions",
        json={**body, "stream": True},
        headers=bearer(tenant),
        timeout=_SECONDS,
    ) as answer:
        for line in answer.iter_lines():
            lines += [line] if line else []
    assert lines[-1] == "data: [DONE]", lines[-1][:300]
    for line in lines[:-1]:
        texts += [each["text"] for each in json.loads(line[6:])["choices"]]
    return "".join(texts), len(texts)


def test_labels_are_those_of_an_engine_in_the_process(setup: Setup) -> None:
    most = 0.0
    for text in _TEXTS[:3]:
        body = {"model": MODEL, "input": text, "candidate_labels": _LABELS}
        *found, wanted = [_scores(each) for each in setup.post("/v1/classify", body)]
        for each in found:
            assert each.keys() == wanted.keys()
            most = max(most, *(abs(each[label] - wanted[label]) for label in wanted))
    assert most < 1e-3
    _tell("probabilities of labels differ by at most", f"{most:.1e}")


def _scores(answer: Any) -> dict[str, float]:
    (result,) = answer["data"]
    return {each["label"]: each["score"] for each in result["scores"]}


def test_an_adapter_is_loaded_into_both_engines_and_proven(setup: Setup) -> None:
    for engine in setup.engines:
        (name,) = engine.models() - {MODEL}
        assert name.startswith(f"{_ADAPTER}@")
    for _ in range(4):  # of which the router gives each engine some
        for prompt, answer in zip(_PROMPTS, setup.golden, strict=True):
            body = {"model": _ADAPTER, "prompt": prompt, "max_tokens": 8, "temperature": 0}
            for each in setup.post("/v1/completions", body):
                assert each["choices"][0]["text"] == answer
    _tell("an adapter", "on both engines, proven, and answers as peft")


def test_a_client_that_goes_away_frees_the_engine(setup: Setup) -> None:
    def running() -> float:
        return sum(each.running() for each in setup.engines)

    body = {"model": MODEL, "prompt": "Once", "max_tokens": 1900, "ignore_eos": True}
    with httpx.stream(
        "POST",
        f"{setup.replicas[0].url}/v1/completions",
        json={**body, "stream": True},
        headers=bearer(_LIGHT),
        timeout=_SECONDS,
    ) as answer:
        assert answer.status_code == 200, answer.read()
        next(answer.iter_lines())
        wait_until(running, PATIENCE_S, "the request in an engine")
    wait_until(lambda: not running(), PATIENCE_S, "a free engine")
    _tell("a hang-up", "ends the request in the engine")


def test_a_light_tenant_beside_a_flood(setup: Setup) -> None:
    body = {"model": MODEL, "max_tokens": 64, "ignore_eos": True}
    url = setup.replicas[0].url
    alone = _latencies(url, body)
    with crowd(url, 32, body, key=key_of(_HEAVY)) as heavy:
        wait_until(lambda: len(heavy.ended) > 32, PATIENCE_S, "the flood")
        beside = _latencies(url, body)
    flood = statistics.median(each.seconds for each in heavy.ended if each.outcome == OK)
    assert not heavy.outcomes()[SILENT]
    assert statistics.median(beside) < flood, "the light tenant waits behind the flood"
    told = [f"{statistics.median(each):.2f} s" for each in (alone, beside)]
    _tell("a light tenant's answer alone, beside a flood of 32", ", ".join(told))
    _tell("the flood's own answers", f"{flood:.2f} s")


def _latencies(url: str, body: Mapping[str, Any]) -> list[float]:
    found = []
    for number in range(8):
        began = time.monotonic()
        asked = [{"role": "user", "content": f"{number}: what is that?"}]
        _post(f"{url}/v1/chat/completions", {**body, "messages": asked})
        found.append(time.monotonic() - began)
    return found


def test_what_the_way_through_a_replica_costs(setup: Setup) -> None:
    body = {"model": MODEL, "max_tokens": _TOKENS, "ignore_eos": True, "temperature": 0}
    remote = setup.replicas[0].server
    assert remote is not None
    assert setup.engines[0].server is not None
    measured = {
        "vLLM's own server": (setup.engines[0].url, setup.engines[0].server.process.pid),
        "a replica and the router before it": (remote.url, remote.process.pid),
        "an engine in the process": (setup.reference.url, setup.reference.process.pid),
    }
    seconds: dict[str, float] = {}
    for name, (url, pid) in measured.items():
        _measured(url, pid, body, 8)  # warm
        seconds[name], cpu = _measured(url, pid, body, _STREAMS)
        ratio = seconds[name] / seconds["vLLM's own server"]
        figure = f"{1000 * seconds[name]:.0f} ms ({ratio:.2f} times), {1e6 * cpu:.0f} us"
        _tell(f"{_TOKENS} tokens, 8 streams at once, and the API process's CPU a token: {name}",
              figure)  # fmt: skip


def _measured(url: str, pid: int, body: Mapping[str, Any], streams: int) -> tuple[float, float]:
    """The median of the streams' seconds, and seconds of a core a token of the API process."""
    process = psutil.Process(pid)

    def one(number: int) -> float:
        began = time.monotonic()
        _streamed(url, {**body, "prompt": f"{number}: once"})
        return time.monotonic() - began

    before = sum(process.cpu_times()[:2])
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(one, range(streams)))
    return statistics.median(found), (sum(process.cpu_times()[:2]) - before) / (streams * _TOKENS)


def test_an_engine_that_is_killed_under_load(setup: Setup) -> None:
    body = {"model": _ADAPTER, "max_tokens": 48, "ignore_eos": True}
    with ExitStack() as stack:
        met = [
            stack.enter_context(crowd(each.url, 4, {**body, "stream": stream}, key=key_of(_LIGHT)))
            for each, stream in zip(setup.replicas, (True, False), strict=True)
        ]
        wait_until(lambda: all(len(each.ended) > 4 for each in met), PATIENCE_S, "the load")
        # The router may prefer one of the two; the one that has requests is killed.
        wait_until(lambda: any(each.running() for each in setup.engines), PATIENCE_S, "requests")
        first = max(setup.engines, key=VllmServer.running)
        first.kill()
        ended = [len(each.ended) for each in met]
        wait_until(
            lambda: all(
                sum(one.outcome == OK for one in each.ended[before:]) > 4
                for each, before in zip(met, ended, strict=True)
            ),
            PATIENCE_S,
            "answers of the other engine",
        )
        first.start()
        wait_until(
            lambda: first.models() > {MODEL}, PATIENCE_S, "the adapter in the engine that is new"
        )
    outcomes = sum((each.outcomes() for each in met), start=met[0].outcomes(0, 0))
    assert not outcomes[SILENT], [each.details(SILENT) for each in met]
    for replica in setup.replicas:
        _post(f"{replica.url}/v1/completions", {"model": MODEL, "prompt": "a", "max_tokens": 1})
    counts = [f"{name} {outcomes[name]}" for name in (OK, REFUSED, FAILED, SILENT)]
    _tell("requests while one of two engines is killed and started again", ", ".join(counts))
    _tell(
        "their errors", "; ".join(sorted({text[:160] for e in met for text in e.details(FAILED)}))
    )
