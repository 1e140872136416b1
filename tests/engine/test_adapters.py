"""Many adapters, few slots, and versions that change under load, on the real engine."""

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from loadtests.processes import wait_until
from service.cli.main import app
from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server
from training.packing import pack

COUNT = 32
TOKENS = 8
STREAMS = 32
RELOADS = 10
# Longer than two blocks of the CPU build's cache, so that versions have blocks to confuse.
LONG = "The history of the sea, told by those who crossed it in small boats. " * 24
PROMPTS = ["Tell me about the sea.", LONG]

ROUTES: dict[str, dict[str, object]] = {
    "/v1/generate": {"prompt": "Hello", "max_tokens": 2},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 2},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    "/v1/classify": {"input": "Hello"},
    "/v1/tokenize": {"prompt": "Hello"},
    "/v1/detokenize": {"tokens": [72]},
}


@dataclass
class Deployment:
    """A server with good adapters and a broken one, and the answer of each good one."""

    server: Server
    maker: LoraMaker
    root: Path
    answers: dict[str, list[str]] = field(default_factory=dict)

    def write(self, name: str, version: str, seed: int) -> list[str]:
        """Write a version of an adapter into the folder that the configuration names."""
        return self.maker.write(
            self.root / name, name=name, version=version, seed=seed, prompts=PROMPTS, tokens=TOKENS
        )


@pytest.fixture(scope="module")
def deployment(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("adapters")
    maker = LoraMaker(tiny_folder, "tiny")
    names = [f"a{index:02}" for index in range(COUNT)]
    slots = {"max_loras": 8, "max_cpu_loras": 16, "max_lora_rank": 8}
    config = tiny_config(tiny_folder, max_num_seqs=32, **slots)
    config |= PATIENT | {
        "adapters": [{"source": str(root / name)} for name in [*names, "broken"]],
        "adapter_cache": {"path": str(root / "cache")},
        "adapters_on_failure": "quarantine",
        "watchdog": PATIENT["watchdog"]
        | {"probe_s": 3600},  # some tests count what the engine was given
    }
    answers = {
        name: maker.write(
            root / name, name=name, version="1.0.0", seed=seed, prompts=PROMPTS, tokens=TOKENS
        )
        for seed, name in enumerate([*names, "broken"])
    }
    weights = root / "broken" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    del answers["broken"]
    with running_server(tmp_path_factory.mktemp("server"), config) as server:
        yield Deployment(server, maker, root, answers)


def test_every_adapter_has_answered_its_golden_examples_before_ready(
    deployment: Deployment,
) -> None:
    listed = httpx.get(f"{deployment.server.url}/v1/adapters").json()["data"]
    entries = {entry["name"]: entry for entry in listed}
    assert "adapter_model.safetensors: digest differs" in entries.pop("broken")["reason"]
    assert entries.keys() == deployment.answers.keys()
    # They were packed without an engine, and so without a fingerprint.
    assert {entry["state"] for entry in entries.values()} == {"unproven"}
    assert all(entry["proof"]["accuracy"] == 1 for entry in entries.values())


async def test_32_adapters_at_once_answer_rightly_through_8_slots(deployment: Deployment) -> None:
    async with _client(deployment) as client:
        for _ in range(2):
            texts = await asyncio.gather(
                *(_completion(client, name, PROMPTS[0]) for name in deployment.answers)
            )
            assert texts == [answers[0] for answers in deployment.answers.values()]
    assert len(set(texts)) > COUNT / 2


def test_each_request_is_a_hit_or_a_miss(deployment: Deployment) -> None:
    server = deployment.server
    for _ in range(3):
        server.post("/v1/generate", _body("a07", "Again")).raise_for_status()
    # With proofs and requests of earlier tests; half of the adapters were evicted meanwhile.
    wait_until(lambda: _hits_and_misses(server) == _asked(server), 300, "the look at the engine")
    assert server.metric("inference_adapter_misses_total") >= COUNT - 16
    assert server.metric('inference_adapter_hits_total{adapter="a07"}') >= 2
    assert server.metric("inference_adapter_miss_seconds_total") > 0
    assert server.metric("inference_adapter_resident") <= 16


def test_names_that_are_not_served_never_reach_the_base(deployment: Deployment) -> None:
    server = deployment.server
    before = server.metric("inference_tokens_total")
    for route, body in ROUTES.items():
        for name in ("A00", "a0", "a00@", "a00@2.0.0", "a000", "a00 ", "Tiny", "tiny@1.0.0"):
            response = server.post(route, {"model": name, **body})
            assert response.status_code == 404, (route, name)
            assert response.json()["error"]["code"] == "model_not_found"
        for name in ("broken", "broken@1.0.0"):
            response = server.post(route, {"model": name, **body})
            assert response.status_code == 503, (route, name)
            assert response.json()["error"]["code"] == "adapter_quarantined"
    assert server.metric("inference_tokens_total") == before


def test_openai_routes_answer_with_the_name_that_was_asked_for(deployment: Deployment) -> None:
    server = deployment.server
    cards = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert [card["id"] for card in cards] == ["tiny", *deployment.answers]
    assert {card["parent"] for card in cards[1:]} == {"tiny"}
    assert str(deployment.root) not in json.dumps(cards)
    for name in ("a05", "a05@1.0.0"):
        body = {"model": name, "prompt": PROMPTS[0], "max_tokens": TOKENS, "temperature": 0}
        answer = server.post("/v1/completions", body).json()
        assert answer["model"] == name
        assert answer["choices"][0]["text"] == deployment.answers["a05"][0]
        native = server.post("/v1/generate", body).json()
        assert native["model"] == name
        assert native["outputs"][0]["text"] == deployment.answers["a05"][0]


async def test_every_answer_is_whole_from_one_version_while_ten_replace_each_other(
    deployment: Deployment,
) -> None:
    versions = [deployment.answers["a00"][1]]
    current = 0
    running = True
    cached = 0

    async def ask(client: httpx.AsyncClient) -> int:
        nonlocal cached
        asked = 0
        while running:
            first = current
            text, hit = await _stream(client, "a00", PROMPTS[1])
            # The swap of the next version may come just before its reload answers.
            assert text in versions[first : current + 2]
            cached += hit
            asked += 1
        return asked

    async with _client(deployment) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(client)) for _ in range(STREAMS)]
        for number in range(1, RELOADS + 1):
            written = await asyncio.to_thread(
                deployment.write, "a00", f"2.0.{number}", 1000 + number
            )
            versions.append(written[1])
            response = await client.post(f"{deployment.server.ops}/adapters/reload", timeout=600)
            assert response.status_code == 200, response.text
            assert response.json()["loaded"] == [f"a00@2.0.{number}"]
            current = number
        running = False
    assert len(set(versions)) == RELOADS + 1
    assert sum(task.result() for task in tasks) > RELOADS
    assert cached > 0
    deployment.answers["a00"] = written
    assert deployment.server.post("/v1/generate", _body("a00@1.0.0", "x")).status_code == 404


def test_sighup_reloads_and_a_failure_keeps_the_old(deployment: Deployment) -> None:
    server = deployment.server
    golden = deployment.root / "a01" / "golden.jsonl"
    golden.write_text(golden.read_text().replace('"expect": "', '"expect": "not '))
    draft = {
        "name": "a01",
        "version": "3.0.0",
        "task": "generation",
        "golden": {"file": "golden.jsonl", "match": "exact", "max_tokens": TOKENS},
    }
    pack(deployment.root / "a01", deployment.maker.base, draft, overwrite=True)
    response = httpx.post(f"{server.ops}/adapters/reload", timeout=600)
    assert response.status_code == 409
    assert "proof: expected an accuracy of at least 1, found 0 of 2" in response.text
    assert server.post("/v1/generate", _body("a01@1.0.0", "x")).status_code == 200
    deployment.write("a01", "3.1.0", 2000)
    server.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: server.post("/v1/generate", _body("a01@3.1.0", "x")).status_code == 200,
        300,
        "the new version",
    )


def test_sets_of_several_labels_keep_their_promise_on_lines(
    deployment: Deployment, tmp_path: Path
) -> None:
    server, folder = deployment.server, deployment.root / "a02"
    names = ("sea", "boats")
    draft = {
        "name": "a02",
        "version": "4.0.0",
        "task": "classification",
        "prompt": {"template": "Text: {input}\nTopic:"},
        "classification": {
            "labels": {name: f" {name}" for name in names},
            "multi_label": True,
            "calibration": {"temperature": 1.0},
        },
    }
    (folder / "golden.jsonl").unlink()
    pack(folder, deployment.maker.base, draft, overwrite=True)
    _reload(server)
    texts = [f"{number} boats on the sea" for number in range(40)]
    lines = tmp_path / "lines.jsonl"
    rows = [
        {"text": text, "labels": names if number % 3 else names[1:]}
        for number, text in enumerate(texts)
    ]
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["calibrate-sets", folder, "--lines", lines, "--url", server.url, "--coverage", 0.8]
    done = CliRunner().invoke(app, [str(each) for each in command])
    assert done.exit_code == 0, done.output
    _reload(server)
    answer = server.post("/v1/classify", {"model": "a02", "input": texts}).json()
    least = answer["conformal"]["threshold"]
    probs = [each["probs"] for each in answer["data"]]
    # The smallest of the true ones that are kept may be read a little lower the second time.
    kept = [[prob >= cut - 1e-5 for prob, cut in zip(row, least, strict=True)] for row in probs]
    # ceil(27 * 0.8) of the 26 texts of both topics, ceil(41 * 0.8) of all 40.
    assert sum(row[0] for number, row in enumerate(kept) if number % 3) == 22
    assert sum(row[1] for row in kept) == 33
    for row, each in zip(probs, answer["data"], strict=True):
        for name, prob, cut in zip(names, row, least, strict=True):
            if abs(prob - cut) > 1e-5:
                assert (name in each["conformal_set"]) == (prob > cut)


def _reload(server: Server) -> None:
    response = httpx.post(f"{server.ops}/adapters/reload", timeout=600)
    assert response.status_code == 200, response.text


def _hits_and_misses(server: Server) -> float:
    return sum(server.metric(f"inference_adapter_{name}_total") for name in ("hits", "misses"))


def _asked(server: Server) -> float:
    """Requests of adapters that the engine was given, proofs included: no test asks the base.

    A proof asks the base what it asks the adapter.
    """
    of_base = COUNT * len(PROMPTS)
    return server.metric("inference_queue_time_seconds_count") - of_base


def _client(deployment: Deployment) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=deployment.server.url, limits=limits, timeout=600)


def _body(model: str, prompt: str) -> dict[str, object]:
    return {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}


async def _completion(client: httpx.AsyncClient, model: str, prompt: str) -> str:
    response = await client.post("/v1/completions", json=_body(model, prompt))
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


async def _stream(client: httpx.AsyncClient, model: str, prompt: str) -> tuple[str, int]:
    response = await client.post("/v1/generate", json=_body(model, prompt) | {"stream": True})
    assert response.status_code == 200, response.text
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    *deltas, summary, done = [block.removeprefix("data: ") for block in blocks]
    assert done == "[DONE]", response.text
    return (
        "".join(json.loads(delta)["text"] for delta in deltas),
        json.loads(summary)["usage"]["cached_tokens"],
    )
