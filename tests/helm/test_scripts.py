"""The scripts that the chart carries: the fetch of weights and the test that asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.models.base_model import base_model_digest
from tests.adapters.samples import write_base
from tests.live_service import MODEL, LiveService
from tools.helm.chart import CHART

PREFETCH = CHART / "files" / "prefetch.py"
SMOKE = CHART / "files" / "smoke.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder that stands for an object store."""
    return write_base(tmp_path / "store")


def test_fetch_brings_the_whole_folder(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "base"
    first = run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert first.returncode == 0, first.stderr
    assert base_model_digest(target) == base_model_digest(store)
    (store / "config.json").unlink()
    again = run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert again.returncode == 0, again.stderr


def test_what_a_killed_fetch_of_another_source_left_is_cleared(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "base"
    left = target.parent / ".fetch-base-0123456789ab" / "base"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"h" * 1000)
    fetched = run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert fetched.returncode == 0, fetched.stderr
    assert sorted(path.name for path in target.parent.iterdir()) == ["base", "base.lock"]
    assert not (target / "half").exists()


def test_a_folder_that_an_earlier_version_fetched_is_taken(store: Path, tmp_path: Path) -> None:
    target = write_base(tmp_path / "base")
    (target / ".source").write_text(f"{store.as_uri()}\n")
    assert run(PREFETCH, "fetch", store.as_uri(), target, "10").returncode == 0
    assert run(PREFETCH, "wait", store.as_uri(), target, "0").returncode == 0


def test_wait_ends_when_it_is_there(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "base"
    early = run(PREFETCH, "wait", store.as_uri(), target, "0")
    assert early.returncode == 1
    assert "was not there after 0 s" in early.stderr
    run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert run(PREFETCH, "wait", store.as_uri(), target, "0").returncode == 0


def test_a_folder_in_use_is_not_written_to(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "base"
    run(PREFETCH, "fetch", store.as_uri(), target, "10")
    other = run(PREFETCH, "fetch", "s3://bucket/other", target, "10")
    assert other.returncode == 1
    assert "pods may serve it: name another folder for s3://bucket/other" in other.stderr


def test_a_folder_of_unknown_origin_is_not_written_to(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "base"
    target.mkdir()
    refused = run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert "set model.source to volume to serve what lies there" in refused.stderr
    assert list(target.iterdir()) == []


def test_a_folder_without_a_model_leaves_nothing(store: Path, tmp_path: Path) -> None:
    (store / "config.json").unlink()
    target = tmp_path / "models" / "base"
    refused = run(PREFETCH, "fetch", store.as_uri(), target, "10")
    assert "config.json: is missing: expected a model's folder, found none" in refused.stderr
    assert not target.exists()


def test_smoke_asks_for_a_completion_and_a_classification() -> None:
    with LiveService() as service:
        answer = run(SMOKE, service.url, MODEL)
    assert answer.returncode == 0, answer.stderr
    assert "completion: '" in answer.stdout
    assert "'positive': " in answer.stdout


def test_smoke_fails_with_the_servers_words() -> None:
    with LiveService() as service:
        answer = run(SMOKE, service.url, "absent")
    assert answer.returncode == 1
    assert "/v1/generate: 404" in answer.stderr
    assert "model_not_found" in answer.stderr


@pytest.mark.parametrize(
    ("name", "route"), [("embed", "embeddings"), ("score", "rerank"), ("classify", "classify")]
)
def test_smoke_asks_an_encoder_what_its_task_is(name: str, route: str) -> None:
    with LiveService(model=None, encoders=[{"name": name, "path": "unused"}]) as service:
        answer = run(SMOKE, service.url, name, "encoder")
        absent = run(SMOKE, service.url, "absent", "encoder")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"{route}: ")
    assert absent.returncode == 1
    assert absent.stderr.count("model_not_found") == 3
