"""Base models from the Hub's protocol, S3, GCS, HTTPS, a registry and a folder."""

import json
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import requests
from gcp_storage_emulator.server import create_server
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S
from service.cli.main import app
from service.common.files import file_digest
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from service.models.fetch import IGNORED, fetch_model
from service.models.file_list import LIST_FILE, ModelRefused, read_file_list
from service.models.tensors import INDEX_FILE, SINGLE_FILE
from service.sources import artifact
from service.sources import download as progress
from service.sources.reference import parse_reference
from service.sources.source import SourceMissing, SourceUnreachable
from tests.adapters.samples import write_base
from tests.sources.registries import Registry, docker_registry
from tests.sources.servers import (
    FileServer,
    s3_bucket,
    serve_https,
    serve_hub,
    write_certificate,
)

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
PICKLES = ("consolidated.00.pth", "pytorch_model.bin", "training_args.bin", "optimizer.pt")
UNREAD = (*PICKLES, "consolidated.safetensors", "model.gguf", ".gitattributes", "modeling.py")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model in two shards, and the same weights in other formats."""
    folder = write_base(tmp_path / "repository")
    tensors = load_file(folder / SINGLE_FILE)
    halves = (sorted(tensors)[:3], sorted(tensors)[3:])
    for file, names in zip(SHARDS, halves, strict=True):
        save_file({name: tensors[name] for name in names}, folder / file)
    places = {name: file for file, names in zip(SHARDS, halves, strict=True) for name in names}
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": places}))
    for name in UNREAD:
        (folder / name).write_bytes(b"w" * 1000)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "mine"


@pytest.fixture
def web(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    certificate = write_certificate(tmp_path / "server.pem")
    trust = {"ssl": ssl.create_default_context(cafile=str(certificate))}
    monkeypatch.setitem(fsspec.config.conf, "https", trust)
    with serve_https(repository, certificate) as server:
        yield server


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def expected(repository: Path) -> set[str]:
    """Files that are fetched: the shards, neither other formats nor the single file beside them."""
    return (names(repository) - set(UNREAD) - {SINGLE_FILE}) | {LIST_FILE}


def check(target: Path, repository: Path, source: str) -> None:
    """The target holds the model, with a list that states each file's digest."""
    assert names(target) == expected(repository)
    listed = read_file_list(target)
    assert listed is not None
    assert listed.source == source
    assert listed.files == {
        name: file_digest(repository / name) for name in expected(repository) - {LIST_FILE}
    }
    assert names(target.parent) <= {target.name, f"{target.name}.lock", "hub"}


def command(
    folder: Path, source: str, endpoint: str, *options: str
) -> "subprocess.CompletedProcess[str]":
    # A process of its own: huggingface_hub reads HF_ENDPOINT when it is imported.
    run = [sys.executable, "-m", "service.cli.main", "model", "fetch", source, str(folder)]
    return subprocess.run(
        run,
        # An engine that another test has started has switched the Hub off for this process.
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder.parent / "hub"),
            "HF_HUB_OFFLINE": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hub(repository: Path, target: Path) -> None:
    source = f"hf://acme/tone@{'c' * 40}"
    with serve_hub(repository) as hub:
        run = command(target, source, hub.url)
    assert run.returncode == 0, run.stderr
    check(target, repository, source)
    assert {name for name, _ in hub.fetched}.isdisjoint({*UNREAD, SINGLE_FILE})
    listed = read_file_list(target)
    assert listed is not None
    assert run.stdout.strip() == listed.digest
    again = command(target, source, "http://127.0.0.1:9")
    assert again.stdout == run.stdout, again.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://acme/tone", "model source hf://acme/tone: expected hf://org/name@revision"),
        ("hf://acme/tone@v2", "hf://acme/tone@v2: expected a model's files, found none that may"),
        ("ftp://host/model", "model source ftp://host/model: expected a folder or one of"),
    ],
)
def test_a_source_that_is_none_leaves_nothing(
    repository: Path, target: Path, source: str, message: str
) -> None:
    with serve_hub(repository) as hub:
        run = command(target, source, hub.url)
    assert run.returncode == 2
    assert f"error: {message}" in run.stderr, run.stderr
    assert not target.exists()


def test_a_folder(repository: Path, target: Path) -> None:
    fetch_model(str(repository), target)
    check(target, repository, str(repository))
    assert base_model_digest(target) == base_model_digest(repository)


def test_a_single_file_is_fetched_where_no_index_is(repository: Path, target: Path) -> None:
    (repository / INDEX_FILE).unlink()
    fetch_model(str(repository), target)
    held = {path.name for path in target.glob("*.safetensors")}
    assert held == {SINGLE_FILE}


def test_s3(repository: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_bucket(repository, "base/mine", monkeypatch) as client:
        fetch_model("s3://models/base/mine", target)
        check(target, repository, "s3://models/base/mine")
        client.put_object(Bucket="models", Key="base/mine//etc/outside.json", Body=b"{}")
        with pytest.raises(
            ModelRefused, match=r"mine: /etc/outside\.json: cannot be a file's name"
        ):
            fetch_model("s3://models/base/mine", target.with_name("odd"))
        with pytest.raises(SourceMissing, match="s3://models/none: expected a model's files"):
            fetch_model("s3://models/none", target.with_name("none"))


def test_gcs(repository: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create_server("127.0.0.1", 0, in_memory=True, default_bucket="models") as server:
        host, port = server._api._httpd.server_address
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        for path in repository.iterdir():
            place = f"http://{host}:{port}/upload/storage/v1/b/models/o"
            parameters = {"uploadType": "media", "name": f"base/mine/{path.name}"}
            answer = requests.post(
                place, params=parameters, data=path.read_bytes(), timeout=PATIENCE_S
            )
            answer.raise_for_status()
        fetch_model("gs://models/base/mine", target)
    check(target, repository, "gs://models/base/mine")


def test_https_which_lists_nothing(web: FileServer, repository: Path, target: Path) -> None:
    fetch_model(web.url, target)
    check(target, repository, web.url)


def test_a_registry(
    registry: Registry, repository: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(target.parent))
    address = f"oci://{registry.host}/models/mine:1"
    pushed = sorted(names(repository) - {".gitattributes"})
    artifact.push(repository, parse_reference(address, "model"), pushed)
    fetch_model(address, target)
    check(target, repository, address)


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    web: FileServer, repository: Path, target: Path
) -> None:
    shard = SHARDS[1]
    size = (repository / shard).stat().st_size
    web.broken_from[shard] = 1
    with pytest.raises(SourceUnreachable, match=shard):
        fetch_model(web.url, target)
    assert not target.exists()
    (workplace,) = target.parent.glob(".fetch-mine-*")
    (part,) = workplace.glob(f"mine/{shard}.*part")
    part.write_bytes((repository / shard).read_bytes()[: size // 2])
    del web.broken_from[shard]
    web.fetched.clear()
    fetch_model(web.url, target)
    check(target, repository, web.url)
    first = {name: start for name, start in web.fetched if name.endswith(".safetensors")}
    assert first == {shard: size // 2}  # the other shard was there, and half of this one


def test_a_part_of_other_bytes_is_not_continued(
    web: FileServer, repository: Path, target: Path
) -> None:
    listed = fetch_model(web.url, target.with_name("first"))
    listed.write(repository)  # so that the source states digests
    web.broken_from[SHARDS[1]] = 1
    with pytest.raises(SourceUnreachable):
        fetch_model(web.url, target)
    (part,) = target.parent.glob(f".fetch-mine-*/mine/{SHARDS[1]}.*part")
    part.write_bytes(b"other")
    web.broken_from.clear()
    assert fetch_model(web.url, target).digest == listed.digest


def test_a_list_at_the_source_is_checked(web: FileServer, repository: Path, target: Path) -> None:
    fetch_model(web.url, target).write(repository)
    changed = repository / SHARDS[0]
    raw = bytearray(changed.read_bytes())
    raw[-1] ^= 1
    changed.write_bytes(raw)
    with pytest.raises(ModelRefused, match=rf"{SHARDS[0]}: digest differs at its source"):
        fetch_model(web.url, target.with_name("second"))


def test_a_model_without_safetensors_is_refused_before_it_is_fetched(
    web: FileServer, repository: Path, target: Path
) -> None:
    for name in (INDEX_FILE, SINGLE_FILE):
        (repository / name).unlink()
    with pytest.raises(ModelRefused, match=r"model.safetensors: is missing: expected weights in"):
        fetch_model(web.url, target)
    assert web.fetched == []


def test_a_shard_that_the_index_names_must_be_there(
    web: FileServer, repository: Path, target: Path
) -> None:
    (repository / SHARDS[1]).unlink()
    with pytest.raises(ModelRefused, match=rf"{SHARDS[1]}: is missing"):
        fetch_model(web.url, target)


def test_patterns_take_the_place_of_the_usual_ones_except_for_pickles(
    repository: Path, target: Path
) -> None:
    run = CliRunner().invoke(
        app, ["model", "fetch", str(repository), str(target), "--ignore", "tokenizer_*"]
    )
    assert run.exit_code == 0, run.output
    assert {"model.gguf", "modeling.py"} <= names(target)
    assert not {*PICKLES, ".gitattributes", "consolidated.safetensors"} & names(target)


def test_a_folder_that_holds_something_else_is_not_written_to(
    repository: Path, target: Path
) -> None:
    target.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=f"exists and has no {LIST_FILE}; name another"):
        fetch_model(str(repository), target)
    target.rmdir()
    fetch_model(str(repository), target)
    with pytest.raises(ConfigurationError, match=f"holds {repository}; name another folder for "):
        fetch_model("s3://bucket/other", target)


def test_a_disk_that_is_too_small_is_told_before_the_weights_are_fetched(
    web: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SimpleNamespace(free=1000)
    monkeypatch.setattr("service.models.fetch.shutil.disk_usage", lambda path: small)
    with pytest.raises(ConfigurationError, match=r"needs 0\.\d GB more in .*, where 0\.0 GB are"):
        fetch_model(web.url, target)
    assert [name for name, _ in web.fetched if name.endswith(".safetensors")] == []


def test_a_log_has_a_line_now_and_then(
    repository: Path,
    target: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        fetch_model(str(repository), target)
    assert f"repository: {SHARDS[0]}: 0 of 0 MB" in caplog.text
    assert f"{repository}: 0.1 MB in" in caplog.text


def test_weights_that_are_served_are_never_left_out() -> None:
    served = {"*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"}
    assert served.isdisjoint(IGNORED)


def test_the_folder_is_named_after_the_source(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["model", "fetch", str(repository)])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "models" / "repository" / LIST_FILE).is_file()


def test_a_folder_that_is_not_there_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="mdel: there is no such folder"):
        fetch_model(str(tmp_path / "mdel"), tmp_path / "models" / "mine")
    assert not [*tmp_path.iterdir()]
