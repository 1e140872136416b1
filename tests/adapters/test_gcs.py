"""Adapters from Google Cloud Storage, over an emulator of its protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gcp_storage_emulator.server import create_server

from loadtests.processes import PATIENCE_S
from service.adapters.cache import AdapterCache
from service.adapters.formats import AdapterRefused
from service.adapters.verify import verify
from service.models.base_model import ServedBase
from service.sources.source import SourceMissing
from tests.adapters.samples import AdapterFolder

WEIGHTS = "adapter_model.safetensors"
BLOCK = 256


class Bucket:
    """The bucket `models` of a running emulator; an adapter lies below adapters/tone."""

    uri = "gs://models/adapters/tone"

    def __init__(self, url: str) -> None:
        self.url = url

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the adapter."""
        place = f"{self.url}/upload/storage/v1/b/models/o"
        parameters = {"uploadType": "media", "name": f"adapters/tone/{name}"}
        requests.post(place, params=parameters, data=content, timeout=PATIENCE_S).raise_for_status()


@pytest.fixture
def bucket(adapter: AdapterFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with create_server("127.0.0.1", 0, in_memory=True, default_bucket="models") as server:
        host, port = server._api._httpd.server_address
        found = Bucket(f"http://{host}:{port}")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", found.url)
        for path in adapter.save().path.iterdir():
            found.put(path.name, path.read_bytes())
        yield found


@pytest.fixture
def cache(tmp_path: Path) -> AdapterCache:
    return AdapterCache(tmp_path / "cache", block_bytes=BLOCK)


def test_an_adapter_is_fetched_and_a_new_version_seen(
    bucket: Bucket, adapter: AdapterFolder, base: ServedBase, cache: AdapterCache
) -> None:
    assert verify(cache.resolve(bucket.uri).folder, base).manifest.name == "sentiment"
    adapter.manifest["version"] = "1.3.0"
    bucket.put("adapter.yaml", (adapter.write_manifest().path / "adapter.yaml").read_bytes())
    assert cache.resolve(bucket.uri).manifest.version == "1.3.0"


def test_a_part_is_continued(
    bucket: Bucket, adapter: AdapterFolder, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    digest = cache.resolve(bucket.uri).folder.name
    weights = (adapter.path / WEIGHTS).read_bytes()
    part = tmp_path / "again" / "partial" / digest / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(weights[: len(weights) // 2])
    # Were the first half fetched again, these bytes would be refused.
    bucket.put(WEIGHTS, bytes(len(weights) // 2) + weights[len(weights) // 2 :])
    found = AdapterCache(tmp_path / "again", block_bytes=BLOCK).resolve(bucket.uri)
    assert verify(found.folder, base)


def test_other_bytes_are_refused_and_what_is_not_there_is_missing(
    bucket: Bucket, cache: AdapterCache
) -> None:
    bucket.put(WEIGHTS, b"something else")
    with pytest.raises(AdapterRefused, match="digest differs at its source"):
        cache.resolve(bucket.uri)
    with pytest.raises(SourceMissing, match=r"gs://models/none: expected adapter\.yaml"):
        cache.resolve("gs://models/none")
