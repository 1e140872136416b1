"""The default service with two tenants and a release, as the console is shown with."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.adapters.manifest_yaml import load_manifest
from service.settings.load import load_settings
from tests.served.server import PATIENT, Server
from tools.keys import bearer, entry, write_keys

_CONFIG = Path("deploy/local/config.yaml")
_ADAPTER = Path("deploy/local/adapters/sentiment")
_SECONDS = 300
SHARES = {"research": 3, "support": 1}
"""Tenants and their weights."""
TENANT = "research"
_ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    *[("/v1/completions", {"prompt": "The sea is", "max_tokens": 64})] * 5,
    ("/v1/classify", {"model": "sentiment", "input": "It was on television last night."}),
)


def configuration(folder: Path) -> dict[str, Any]:
    """The settings; files that they name are written into the folder."""
    tenants = [
        entry(name, weight=weight, quotas={"tokens_per_day": 1_000_000})
        for name, weight in SHARES.items()
    ]
    config: dict[str, Any] = load_settings(_CONFIG).model_dump(mode="json", exclude_unset=True)
    return config | {
        "adapters": [{"source": str(_ADAPTER.resolve())}],
        "guards": {},  # its model is not among these adapters
        "tenants": {"keys": str(write_keys(folder / "keys", *tenants))},
        "usage": {"path": str(folder / "usage")},
        "batches": {"path": str(folder / "batches")},
        "releases": {"path": str(folder / "releases"), "plans": {"sentiment": _plan(folder)}},
        "golden_timeout_s": PATIENT["golden_timeout_s"],
    }


def _plan(folder: Path) -> dict[str, Any]:
    """The release of the adapter's own weights under the next version."""
    source = shutil.copytree(_ADAPTER, folder / "sentiment-1.1.0")
    manifest = source / "adapter.yaml"
    manifest.write_text(manifest.read_text().replace("version: 1.0.0", "version: 1.1.0", 1))
    return {
        "source": str(source),
        "digest": load_manifest(source).digest,
        "sticky": "request",
        "canary": [{"share": 0.3, "requests": 1000}, {"share": 0.6, "requests": 1000}],
    }


def make_batch(server: Server, tenant: str, count: int) -> None:
    """Have a batch of so many lines answered in the background."""
    url, headers = f"{server.url}/v1", bearer(tenant)
    body = {"model": server.model, "prompt": "The sea is", "max_tokens": 16}
    line = {"method": "POST", "url": "/v1/completions", "body": body}
    lines = "".join(f"{json.dumps(line | {'custom_id': str(each)})}\n" for each in range(count))
    files, purpose = {"file": ("questions.jsonl", lines.encode())}, {"purpose": "batch"}
    file = httpx.post(f"{url}/files", files=files, data=purpose, headers=headers).json()["id"]
    batch = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
    httpx.post(f"{url}/batches", json=batch, headers=headers).raise_for_status()


@contextmanager
def overload(server: Server) -> Iterator[None]:
    """Have both tenants ask for more than the service can do, for as long as the block runs."""
    ended = threading.Event()

    def ask(number: int) -> None:
        tenant = [*SHARES][number % len(SHARES)]
        path, body = _ASKED[number // len(SHARES) % len(_ASKED)]
        with httpx.Client(headers=bearer(tenant), timeout=_SECONDS) as client:
            while not ended.is_set():
                client.post(f"{server.url}{path}", json={"model": server.model} | body)
                ended.wait(0.2)

    with ThreadPoolExecutor(48) as threads:
        asking = threads.map(ask, range(48))
        try:
            yield
        finally:
            ended.set()
        list(asking)
