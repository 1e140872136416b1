"""Adapters from OCI registries: a real one for success, a scripted one for refusals."""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.adapters.cache import AdapterCache
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import SIGNATURE_FILE
from service.adapters.verify import verify
from service.cli.main import app
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.sources.source import SourceMissing, SourceUnreachable, parse_source
from tests.adapters.samples import AdapterFolder
from tests.sources.registries import (
    Registry,
    ScriptedRegistry,
    docker_registry,
    scripted_registry,
)
from training.packing import push

WEIGHTS = "adapter_model.safetensors"
BLOCK = 256


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> AdapterCache:
    return AdapterCache(tmp_path / "cache", block_bytes=BLOCK)


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def scripted(adapter: AdapterFolder) -> Iterator[ScriptedRegistry]:
    with scripted_registry() as running:
        running.hold(_files(adapter))
        yield running


def _files(adapter: AdapterFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in adapter.save().path.iterdir()}


def test_what_is_pushed_is_served_by_tag_and_by_digest(
    registry: Registry, adapter: AdapterFolder, base: ServedBase, cache: AdapterCache
) -> None:
    address = f"oci://{registry.host}/acme/tone"
    pinned = push(adapter.save().path, f"{address}:1.2.0")
    assert pinned.startswith(f"{address}@sha256:")
    by_tag = cache.resolve(f"{address}:1.2.0")
    assert verify(by_tag.folder, base).manifest.name == "sentiment"
    assert cache.resolve(pinned).folder == by_tag.folder
    digest = by_tag.manifest.digest
    assert cache.signature(pinned, digest) is None

    (adapter.path / SIGNATURE_FILE).write_bytes(b"signed")
    push(adapter.path, f"{address}:signed")
    kept = cache.signature(f"{address}:signed", digest)
    assert kept is not None
    assert kept.read_bytes() == b"signed"

    adapter.manifest["version"] = "1.3.0"
    push(adapter.write_manifest().path, f"{address}:1.2.0")
    assert cache.resolve(f"{address}:1.2.0").manifest.version == "1.3.0"
    assert cache.resolve(pinned).manifest.version == "1.2.0"


@pytest.mark.parametrize("place", ["acme/none:1", "acme/tone:none"])
def test_what_is_not_there_is_missing(registry: Registry, cache: AdapterCache, place: str) -> None:
    with pytest.raises(SourceMissing, match=f"{place}: expected adapter.yaml, found none"):
        cache.resolve(f"oci://{registry.host}/{place}")


def test_an_artifact_without_an_adapter_is_missing(
    scripted: ScriptedRegistry, cache: AdapterCache
) -> None:
    scripted.hold({"model.onnx": b"other"})
    with pytest.raises(SourceMissing, match=r"expected adapter\.yaml, found none"):
        cache.resolve(f"oci://{scripted.host}/tone:1")


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    registry: Registry,
    adapter: AdapterFolder,
    base: ServedBase,
    cache: AdapterCache,
    tmp_path: Path,
) -> None:
    pinned = push(adapter.save().path, f"oci://{registry.host}/acme/resumed:1")
    weights = (adapter.path / WEIGHTS).read_bytes()
    digest = cache.resolve(pinned).folder.name
    part = tmp_path / "again" / "partial" / digest / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(weights[: len(weights) // 2])
    # Were the first half fetched again, the registry's broken copy of it would be refused.
    blob = registry.blob(adapter.manifest["files"][WEIGHTS])
    blob.write_bytes(bytes(len(weights) // 2) + weights[len(weights) // 2 :])
    found = AdapterCache(tmp_path / "again", block_bytes=BLOCK).resolve(pinned)
    assert verify(found.folder, base)


def test_a_file_that_rotted_in_the_registry_is_refused(
    registry: Registry, adapter: AdapterFolder, cache: AdapterCache, tmp_path: Path
) -> None:
    pinned = push(adapter.save().path, f"oci://{registry.host}/acme/rotten:1")
    blob = registry.blob(adapter.manifest["files"][WEIGHTS])
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises(AdapterRefused, match=f"{WEIGHTS}: .*expected sha256:"):
        cache.resolve(pinned)
    assert cache.entries() == []
    assert list(tmp_path.glob(f"cache/partial/*/{WEIGHTS}*")) == []


def test_docker_s_credentials_open_a_registry_with_a_password(
    adapter: AdapterFolder, cache: AdapterCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry", with_password=True) as registry:
        address = f"oci://{registry.host}/tone:1"
        with pytest.raises(SourceMissing, match=r"expected adapter\.yaml, found none that may be"):
            cache.resolve(address)
        with pytest.raises(ConfigurationError, match="wants credentials"):
            push(adapter.save().path, address)
        secret = base64.b64encode(b"tester:secret").decode()
        login = {"auths": {registry.host: {"auth": secret}}}
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "config.json").write_text(json.dumps(login))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        pinned = push(adapter.path, address)
        assert cache.resolve(pinned).manifest.name == "sentiment"


def test_a_token_that_expires_between_two_files_is_renewed(
    scripted: ScriptedRegistry, cache: AdapterCache
) -> None:
    scripted.tokens = True
    assert cache.resolve(f"oci://{scripted.host}/tone:1").manifest.name == "sentiment"
    assert len(scripted.issued) > 1


def test_a_registry_without_ranges_sends_the_whole_again(
    scripted: ScriptedRegistry, base: ServedBase, cache: AdapterCache, tmp_path: Path
) -> None:
    digest = cache.resolve(f"oci://{scripted.host}/tone:1").folder.name
    part = tmp_path / "again" / "partial" / digest / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"cannot be continued")
    scripted.ranges = False
    again = AdapterCache(tmp_path / "again", block_bytes=BLOCK)
    assert verify(again.resolve(f"oci://{scripted.host}/tone:1").folder, base)


def _titled(title: str) -> Callable[[Any], object]:
    def change(layers: Any) -> None:
        layers[0]["annotations"] = {"org.opencontainers.image.title": title}

    return change


def _packed(layers: Any) -> None:
    layers[0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"


def _unpacked(layers: Any) -> None:
    layers[0]["annotations"]["io.deis.oras.content.unpack"] = "true"


LAYERS: list[tuple[str, Callable[[Any], object], str]] = [
    ("path escape", _titled("../adapter.yaml"), "a plain file name, found ../adapter.yaml"),
    ("absolute path", _titled("/etc/passwd"), "a plain file name, found /etc/passwd"),
    ("folder", _titled("a/b"), "a plain file name, found a/b"),
    ("hidden file", _titled(".profile"), "a plain file name, found .profile"),
    ("no title", lambda layers: layers[0].pop("annotations"), "a plain file name, found "),
    ("twice", lambda layers: layers.append(layers[0]), "its title is given twice"),
    ("gzip", _packed, "is packed: expected the file as it is, found .*gzip"),
    ("folder to unpack", _unpacked, "is packed: expected the file as it is"),
    ("digest", lambda layers: layers[0].update(digest="../../x"), r"digest: expected must match"),
    ("size", lambda layers: layers[0].update(size=-1), r"layers\[0\].size: expected greater"),
    ("none", lambda layers: layers.clear(), "layers: expected .*at least 1 item"),
    ("not a list", lambda layers: layers.__setitem__(0, "x"), r"layers\[0\]: expected an object"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), [c[1:] for c in LAYERS], ids=[c[0] for c in LAYERS])
def test_a_manifest_that_is_no_plain_list_of_files_is_refused(
    scripted: ScriptedRegistry,
    cache: AdapterCache,
    change: Callable[[Any], object],
    says: str,
    tmp_path: Path,
) -> None:
    layers = scripted.layers
    change(layers)
    scripted.hold({}, layers=layers)
    with pytest.raises(AdapterRefused, match=f"adapter tone: .*{says}"):
        cache.resolve(f"oci://{scripted.host}/tone:1")
    assert list(tmp_path.glob("cache/*/*")) == []


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "text/html",
    ],
)
def test_what_is_no_artifact_is_refused(
    scripted: ScriptedRegistry, cache: AdapterCache, media_type: str
) -> None:
    scripted.manifest_type = media_type
    with pytest.raises(
        AdapterRefused, match="media type: expected .*, found " + re.escape(media_type)
    ):
        cache.resolve(f"oci://{scripted.host}/tone:1")


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"<html>", "is not JSON"),
        (b"[1]", "is malformed: expected an object"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b" " * ((1 << 20) + 1), "is too large"),
    ],
    ids=["html", "list", "deep", "bytes", "large"],
)
def test_a_manifest_that_is_none_is_refused(
    scripted: ScriptedRegistry, cache: AdapterCache, manifest: bytes, says: str
) -> None:
    scripted.manifest = manifest
    with pytest.raises(AdapterRefused, match=f"adapter tone: manifest: {says}"):
        cache.resolve(f"oci://{scripted.host}/tone:1")


def test_a_manifest_of_another_digest_is_refused(
    scripted: ScriptedRegistry, cache: AdapterCache
) -> None:
    right = scripted.digest
    assert cache.resolve(f"oci://{scripted.host}/tone@{right}")
    wrong = "sha256:" + "0" * 64
    with pytest.raises(AdapterRefused, match=f"its digest: expected {wrong}, found {right}"):
        cache.resolve(f"oci://{scripted.host}/tone@{wrong}")


def test_an_adapter_yaml_of_other_bytes_than_the_artifact_says_is_refused(
    scripted: ScriptedRegistry, cache: AdapterCache, adapter: AdapterFolder
) -> None:
    adapter.manifest["version"] = "6.6.6"
    forged = (adapter.write_manifest().path / "adapter.yaml").read_bytes()
    (layer,) = [each for each in scripted.layers if "adapter.yaml" in each["annotations"].values()]
    scripted.blobs[layer["digest"]] = forged
    with pytest.raises(AdapterRefused, match=r"adapter\.yaml: is not the artifact's blob"):
        cache.resolve(f"oci://{scripted.host}/tone@{scripted.digest}")


def test_a_registry_that_fails_leaves_what_it_held_last_and_a_digest_needs_none(
    scripted: ScriptedRegistry, cache: AdapterCache, caplog: pytest.LogCaptureFixture
) -> None:
    tag = f"oci://{scripted.host}/tone:1"
    pinned = f"oci://{scripted.host}/tone@{scripted.digest}"
    held = cache.resolve(tag)
    cache.resolve(pinned)
    scripted.status = 503
    assert cache.resolve(pinned) == held
    with caplog.at_level(logging.WARNING, logger="service.adapters.cache"):
        last = cache.resolve(tag)
    assert last.folder == held.folder
    assert "using what it held last" in caplog.text


def test_a_registry_nobody_answers_for_is_unreachable_at_once(cache: AdapterCache) -> None:
    with pytest.raises(SourceUnreachable, match=r"oci://127\.0\.0\.1:9/tone:1: adapter\.yaml: "):
        cache.resolve("oci://127.0.0.1:9/tone:1")


@pytest.mark.parametrize(
    "uri",
    [
        "oci://host/tone",
        "oci://host:1",
        "oci:///tone:1",
        "oci://host/Tone:1",
        "oci://host/tone:1@sha256:" + "0" * 64,
        "oci://host/tone@sha256:abc",
        "oci://host/tone@md5:" + "0" * 32,
        "oci://host/a//b:1",
        "oci://host/tone:.1",
        "oci://host:port/tone:1",
    ],
)
def test_addresses_that_are_none(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="expected oci://host/repository:tag or") as error:
        parse_source(uri, AdapterRefused)
    assert uri in str(error.value)


def test_addresses() -> None:
    by_digest = "oci://ghcr.example:5000/a-b/c_d/tone@sha256:" + "0" * 64
    assert parse_source(by_digest, AdapterRefused).immutable
    assert not parse_source("oci://localhost/tone:v1.2_3-x", AdapterRefused).immutable


def test_a_folder_that_is_not_its_manifest_s_is_not_pushed(
    registry: Registry, adapter: AdapterFolder
) -> None:
    (adapter.save().path / WEIGHTS).write_bytes(b"other")
    with pytest.raises(AdapterRefused, match="digest differs"):
        push(adapter.path, f"oci://{registry.host}/acme/broken:1")
    with pytest.raises(ConfigurationError, match="expected a tag to push to"):
        push(adapter.path, f"oci://{registry.host}/acme/broken@sha256:" + "0" * 64)


def test_the_command_prints_the_address_that_pins_what_it_pushed(
    registry: Registry, adapter: AdapterFolder, cache: AdapterCache
) -> None:
    address = f"oci://{registry.host}/acme/command:1"
    command = ["adapters", "push", str(adapter.save().path), address]
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0, printed.output
    assert cache.resolve(printed.stdout.strip()).manifest.name == "sentiment"
    as_json = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(as_json.stdout) == {"ok": True, "source": printed.stdout.strip()}
    refused = CliRunner().invoke(app, [*command[:-1], "oci://127.0.0.1:9/tone:1"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: oci://127.0.0.1:9/tone:1: ConnectionError")
