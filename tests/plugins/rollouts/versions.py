"""Versions of one adapter on disk, and a service on the fake engine that releases them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.adapters.manifest_yaml import load_manifest
from service.plugins.rollouts.log import read_log
from service.plugins.rollouts.plugin import RolloutsPlugin
from tests.live_service import LiveService

STEPS = [{"share": 0.3, "requests": 5}, {"share": 0.6, "requests": 5}]


@dataclass(frozen=True)
class Folders:
    """Versions of one adapter on disk; `text` has another label with the weights of `other`."""

    root: Path
    base: Path
    text: str

    def sections(self, store: Path, planned: str | None, **plan: Any) -> dict[str, Any]:
        """Settings that serve version `old`, and release `planned`."""
        plans = {}
        if planned is not None:
            digest = load_manifest(self.root / planned).digest
            source = str(self.root / planned)
            plans["sentiment"] = {
                "source": source,
                "digest": digest,
                "sticky": "request",
                "canary": STEPS,
            } | plan
        return {
            "adapters": [{"source": str(self.root / "old")}],
            "adapter_cache": {"path": self.root / "cache"},
            "releases": {"path": store, "plans": plans},
        }

    @contextmanager
    def served(
        self, store: Path, planned: str | None, *, beside: Any = None, **plan: Any
    ) -> Iterator[LiveService]:
        """A service with this release, and `beside` it other sections of settings."""
        sections = self.sections(store, planned, **plan) | (beside or {})
        with LiveService(model_path=self.base, **sections) as live:
            yield live


def ask(live: LiveService, folders: Folders, model: str = "sentiment", **headers: str) -> str:
    body = {"model": model, "input": folders.text}
    response = httpx.post(f"{live.url}/v1/classify", json=body, headers=headers)
    assert response.status_code == 200, response.text
    label: str = response.json()["data"][0]["label"]
    return label


def is_old(live: LiveService, answer: httpx.Response, tenant: str = "anonymous") -> bool:
    """True for an answer of the present version, which the service alone reads from its id."""
    ids = live.app.state.plugins.get(RolloutsPlugin).feedback.ids
    return bool(ids.read(answer.headers["x-feedback-id"], tenant).version == "1.0.0")


def release(live: LiveService) -> dict[str, Any]:
    response = httpx.get(f"{live.ops_url}/releases")
    assert response.status_code == 200, response.text
    (found,) = response.json()["releases"]
    return dict(found)


def ask_until(live: LiveService, folders: Folders, state: str) -> None:
    for _ in range(400):
        ask(live, folders)
        if release(live)["state"] == state:
            return
    raise AssertionError(release(live))


def events(store: Path) -> list[tuple[str, str]]:
    return [(each.event, each.by) for each in read_log(store)[0]]


def act(live: LiveService, action: str) -> httpx.Response:
    body = {"action": action, "by": "ann"}
    return httpx.post(f"{live.ops_url}/releases/sentiment", json=body)


def version(live: LiveService) -> str:
    (listed,) = httpx.get(f"{live.url}/v1/adapters").json()["data"]
    version: str = listed["version"]
    return version
