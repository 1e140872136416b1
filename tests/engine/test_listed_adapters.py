"""A list of adapters that changes while the real engine serves, as a mounted ConfigMap does."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S, wait_until
from service.cli.main import app
from tests.served.configuration import tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server

TOKENS = 8
PROMPT = "Tell me about the sea."


@dataclass
class Deployment:
    """A server that follows a mounted folder, and the expected answers by digest of an adapter."""

    server: Server
    maker: LoraMaker
    root: Path
    published: int = 0
    answers: dict[str, str] = field(default_factory=dict)

    def write(self, folder: str, *, version: str, seed: int) -> dict[str, str]:
        """Write an adapter's folder; its entry of the list, without a name."""
        (answer,) = self.maker.write(
            self.root / folder,
            name=folder,
            version=version,
            seed=seed,
            prompts=[PROMPT],
            tokens=TOKENS,
        )
        self.answers[folder] = answer
        return {"source": str(self.root / folder)}

    def publish(self, *adapters: dict[str, str], text: str | None = None) -> None:
        """Change the list as Kubernetes does: a new folder, and a link that is replaced."""
        publish(self.root / "mount", self.published, text or json.dumps({"adapters": adapters}))
        self.published += 1

    def status(self, *options: str) -> tuple[int, dict[str, Any]]:
        """The exit code of `adapters status`, and what it says of this replica."""
        given = ["adapters", "status", "--at", self.server.ops, "--json", *options]
        found = CliRunner().invoke(app, given)
        return found.exit_code, json.loads(found.stdout)["replicas"][0]

    def converged(self, *adapters: dict[str, str]) -> dict[str, Any]:
        """Wait until the list is followed; the replica's states by name."""
        file = self.root / "expected.json"
        file.write_text(json.dumps({"adapters": adapters}))
        code, replica = self.status("--list", str(file), "--wait", str(PATIENCE_S))
        assert code == 0, replica
        return {each["name"]: each for each in replica["adapters"]}

    def ask(self, model: str) -> httpx.Response:
        body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
        return self.server.post("/v1/completions", body)

    def models(self) -> set[str]:
        cards = httpx.get(f"{self.server.url}/v1/models").json()["data"]
        return {card["id"] for card in cards}


def publish(mount: Path, number: int, text: str) -> None:
    (version := mount / f"..{number}").mkdir(parents=True)
    (version / "adapters.yaml").write_text(text)
    (mount / "..new").symlink_to(version.name)
    os.replace(mount / "..new", mount / "..data")
    if not (mount / "adapters.yaml").is_symlink():
        (mount / "adapters.yaml").symlink_to("..data/adapters.yaml")


@pytest.fixture(scope="module")
def deployment(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("listed")
    publish(root / "mount", 0, "adapters: []")
    config = tiny_config(tiny_folder, max_lora_rank=8, max_loras=2)
    config |= PATIENT | {
        "adapters_path": str(root / "mount" / "adapters.yaml"),
        "adapter_cache": {"path": str(root / "cache")},
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as server:
        yield Deployment(server, LoraMaker(tiny_folder, "tiny"), root, published=1)


def test_adapters_are_added_to_a_service_that_began_with_none(deployment: Deployment) -> None:
    assert deployment.ask("a").status_code == 404
    a = {"name": "a"} | deployment.write("a-1", version="1.0.0", seed=1)
    b = {"name": "b"} | deployment.write("b-1", version="1.0.0", seed=2)
    deployment.publish(a, b)
    states = deployment.converged(a, b)
    assert {name: each["version"] for name, each in states.items()} == {"a": "1.0.0", "b": "1.0.0"}
    assert deployment.models() == {"tiny", "a", "b"}
    for name in ("a", "b"):
        answer = deployment.ask(name).json()["choices"][0]["text"]
        assert answer == deployment.answers[f"{name}-1"]
    metrics = httpx.get(f"{deployment.server.ops}/metrics").text
    named = [line for line in metrics.splitlines() if line.startswith("vllm:lora_requests_info{")]
    assert any('running_lora_adapters="b"' in line and 'max_lora="2"' in line for line in named)


async def test_no_request_fails_or_mixes_versions_while_one_replaces_another(
    deployment: Deployment,
) -> None:
    b = {"name": "b", "source": str(deployment.root / "b-1")}
    new = {"name": "a"} | deployment.write("a-2", version="2.0.0", seed=3)
    allowed = {deployment.answers["a-1"], deployment.answers["a-2"]}
    seen: list[str] = []
    done = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        body = {"model": "a", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
        while not done.is_set():
            answer = await client.post(f"{deployment.server.url}/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            seen.append(answer.json()["choices"][0]["text"])

    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(ask(client))
        deployment.publish(new, b)
        await asyncio.to_thread(deployment.converged, new, b)
        before = len(seen)
        while len(seen) < before + 8:  # noqa: ASYNC110 - answers of the new version
            await asyncio.sleep(0.01)
        done.set()
    assert set(seen) == allowed
    assert set(seen[-4:]) == {deployment.answers["a-2"]}
    assert deployment.ask("a@1.0.0").status_code == 404


def test_a_list_that_is_not_valid_changes_nothing(deployment: Deployment) -> None:
    deployment.publish(text="adapters: [{name: a}]")
    wait_until(lambda: deployment.status()[1]["list_error"], PATIENCE_S, "the refusal")
    code, replica = deployment.status()
    assert code == 1
    assert "source: required" in replica["list_error"]
    assert deployment.models() == {"tiny", "a", "b"}
    assert deployment.ask("a").json()["choices"][0]["text"] == deployment.answers["a-2"]
    assert deployment.server.metric("inference_adapter_list_accepted") == 0


def test_what_fails_its_proof_leaves_the_old_one_served(deployment: Deployment) -> None:
    b = {"name": "b", "source": str(deployment.root / "b-1")}
    deployment.write("a-3", version="3.0.0", seed=4)
    weights = deployment.root / "a-3" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    deployment.publish({"name": "a", "source": str(deployment.root / "a-3")}, b)

    def failed() -> bool:
        states = {each["name"]: each for each in deployment.status()[1]["adapters"]}
        return states["a"]["state"] == "failed" and "digest differs" in states["a"]["error"]

    wait_until(failed, PATIENCE_S, "the refusal")
    assert deployment.ask("a").json()["choices"][0]["text"] == deployment.answers["a-2"]
    assert deployment.server.metric("inference_adapters_behind") == 1


def test_a_pin_chooses_the_bytes(deployment: Deployment) -> None:
    b = {"name": "b", "source": str(deployment.root / "b-1")}
    a = {"name": "a", "source": str(deployment.root / "a-2")}
    deployment.publish(a, b)
    digest = deployment.converged(a, b)["a"]["digest"]
    pinned = a | {"digest": digest}
    deployment.publish(pinned, b)
    assert deployment.converged(pinned, b)["a"]["wanted"] == digest
    deployment.publish(a | {"digest": "sha256:" + "0" * 64}, b)
    wait_until(lambda: deployment.status()[0] == 1, PATIENCE_S, "the refusal")
    assert deployment.ask("a").json()["choices"][0]["text"] == deployment.answers["a-2"]


async def test_a_request_that_streams_keeps_the_adapter_that_is_retired(
    deployment: Deployment,
) -> None:
    b = {"name": "b", "source": str(deployment.root / "b-1")}
    body = {"model": "a", "prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
    url = f"{deployment.server.url}/v1/completions"
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S) as client,
        client.stream("POST", url, json=body) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        deployment.publish(b)
        rest = asyncio.create_task(_last(lines))
        await asyncio.to_thread(deployment.converged, b)
        assert (await asyncio.to_thread(deployment.ask, "a")).status_code == 404
        assert await rest == "data: [DONE]"
    assert deployment.models() == {"tiny", "b"}
    wait_until(lambda: len(deployment.status()[1]["adapters"]) == 1, PATIENCE_S, "the end of a")


async def _last(lines: Any) -> str:
    last = ""
    async for line in lines:
        last = line or last
    return last


def test_the_api_edits_the_list(deployment: Deployment) -> None:
    c = deployment.write("c-1", version="1.0.0", seed=5)
    put = httpx.put(f"{deployment.server.ops}/adapters/c", json=c, timeout=PATIENCE_S)
    assert put.status_code == 202
    wait_until(lambda: "c" in deployment.models(), PATIENCE_S, "the adapter")
    assert deployment.ask("c").json()["choices"][0]["text"] == deployment.answers["c-1"]
    gone = httpx.delete(f"{deployment.server.ops}/adapters/c", timeout=PATIENCE_S)
    assert gone.status_code == 202
    wait_until(lambda: deployment.models() == {"tiny", "b"}, PATIENCE_S, "the retirement")
