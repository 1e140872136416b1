"""llm-service calibrate against a running service."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.adapters.manifest import GenerationManifest
from service.adapters.manifest_yaml import load_manifest
from service.commands.cli import app
from tests.adapters.samples import AdapterFolder, write_base
from tests.correctness.samples import generator
from tests.live_service import LiveService
from tests.proving.proven import served_base, sources

COUNT = 60


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    base_folder = write_base(tmp_path / "base")
    generator(tmp_path / "writer", served_base(base_folder))
    with LiveService(
        model_path=base_folder,
        adapters=sources(tmp_path / "writer"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as service:
        yield service


def calibrate(folder: Path, lines: Path, url: str, *more: str) -> Result:
    arguments = ["calibrate", str(folder), "--lines", str(lines), "--url", url, *more]
    return CliRunner().invoke(app, arguments)


def held_out(live: LiveService, file: Path) -> Path:
    """Lines of which the adapter answers two of three as they say."""
    rows = []
    for number in range(COUNT):
        prompt = f"Question {number}"
        body = {"model": "writer", "prompt": prompt, "temperature": 0, "max_tokens": 128}
        answer = httpx.post(f"{live.url}/v1/generate", json=body).json()["outputs"][0]["text"]
        rows.append({"prompt": prompt, "completion": f" {answer}\n" if number % 3 else "other"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_map_is_written_and_a_second_time_the_service_is_behind(
    live: LiveService, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "writer", held_out(live, tmp_path / "lines.jsonl")
    before = load_manifest(folder)
    done = calibrate(folder, lines, live.url, "--json", "--alpha", "0.4")
    assert done.exit_code == 0, done.stderr
    manifest = load_manifest(folder)
    assert isinstance(manifest, GenerationManifest)
    assert manifest.confidence is not None
    assert json.loads(done.stdout) == manifest.confidence.model_dump(mode="json")
    assert manifest.confidence.figures.lines == COUNT
    assert manifest.confidence.figures.base_risk == pytest.approx(1 / 3, abs=1e-4)
    assert manifest.model_copy(update={"confidence": None}) == before
    again = calibrate(folder, lines, live.url)
    assert again.exit_code == 2
    assert "must serve writer with the folder's digest" in again.stderr


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"prompt": "a"}', "line 1: completion"),
        ('{"prompt": "a", "messages": [], "completion": "b"}', "line 1"),
        ("", "must hold 1..10000 lines, got 0"),
    ],
)
def test_lines_that_cannot_be_used_are_named(
    live: LiveService, tmp_path: Path, line: str, told: str
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(line)
    done = calibrate(tmp_path / "writer", lines, live.url)
    assert done.exit_code == 2
    assert told in done.stderr


def test_only_a_generation_adapter_is_calibrated(live: LiveService, tmp_path: Path) -> None:
    other = AdapterFolder(tmp_path / "labels", served_base(tmp_path / "base")).save()
    done = calibrate(other.path, tmp_path / "none", live.url)
    assert done.exit_code == 2
    assert "must be an adapter for generation, got classification" in done.stderr
    missing = calibrate(tmp_path / "nowhere", tmp_path / "none", live.url)
    assert missing.exit_code == 1
    assert "refused" in missing.stderr


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    base = served_base(write_base(tmp_path / "base"))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"prompt": "a", "completion": "b"}')
    done = calibrate(generator(tmp_path / "writer", base).path, lines, "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "cannot be reached" in done.stderr
