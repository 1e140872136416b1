"""The probability of being right, and abstention, on the real engine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from service.adapters.confidence import ConfidenceMap
from service.adapters.golden_score import agreement
from service.adapters.manifest import GenerationManifest
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.cli.main import app
from tests.engine.conftest import ADAPTERS
from tests.evaluation.calibration.samples import AGREEMENT, CONFIDENCE
from tests.served.server import Server

HELD_OUT = Path("deploy/local/suites/commands.jsonl")
COUNT = 54


def test_an_answer_of_commands_is_judged_and_withheld_as_asked(smollm2: Server) -> None:
    lines = (ADAPTERS / "commands" / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    example = json.loads(lines[0])
    body = {"model": "commands", "messages": example["messages"], "temperature": 0}
    answers = {}
    for least in (0.5, 1):
        answer = smollm2.post("/v1/generate", body | {"min_confidence": least})
        assert answer.status_code == 200, answer.text
        answers[least] = answer.json()
    (given,), (withheld,) = (answers[least]["outputs"] for least in (0.5, 1))
    assert json.loads(given["text"]) == example["expect"]
    assert given["finish_reason"] == "stop"
    assert 0.5 <= given["confidence"]["p_correct"] < 1
    assert (withheld["text"], withheld["finish_reason"]) == ("", "abstained")
    assert withheld["confidence"]["p_correct"] == pytest.approx(
        given["confidence"]["p_correct"], abs=0.02
    )
    assert answers[1]["usage"]["completion_tokens"] == answers[0.5]["usage"]["completion_tokens"]


@pytest.fixture
def without_map(
    smollm2: Server, served_adapters: Path, tmp_path: Path
) -> Iterator[tuple[Path, GenerationManifest]]:
    """The folder of `commands`, served without its map, which it gets back with its card."""
    folder = served_adapters / "commands"
    manifest = load_manifest(folder)
    assert isinstance(manifest, GenerationManifest)
    for file in ("adapter.yaml", "README.md"):
        shutil.copy(folder / file, tmp_path)
    write_manifest(folder, manifest.model_copy(update={"confidence": None}))
    reload(smollm2)
    yield folder, manifest
    for file in ("adapter.yaml", "README.md"):
        shutil.copy(tmp_path / file, folder)
    reload(smollm2)


def reload(server: Server) -> None:
    response = httpx.post(f"{server.ops}/adapters/reload", timeout=600)
    assert response.status_code == 200, response.text
    assert [name.partition("@")[0] for name in response.json()["loaded"]] == ["commands"]


def test_lines_give_an_adapter_the_map_that_answers_are_judged_by(
    smollm2: Server, without_map: tuple[Path, GenerationManifest], tmp_path: Path
) -> None:
    folder, before = without_map
    rows = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[:COUNT]]
    body = {"model": "commands", "messages": rows[0]["messages"], "temperature": 0}
    unknown = smollm2.post("/v1/generate", body | {"min_confidence": 0.5})
    assert unknown.status_code == 400, unknown.text
    for row in rows[:10]:  # the adapter is nearly always right
        row["completion"] = '{"intent": "None"}'
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    command = ["calibrate", str(folder), "--lines", str(lines), "--url", smollm2.url]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    manifest = load_manifest(folder)
    assert isinstance(manifest, GenerationManifest)
    fitted = manifest.confidence
    assert fitted is not None
    assert fitted.figures.lines + fitted.figures.cut == COUNT
    assert fitted.figures.base_risk >= 10 / COUNT
    assert manifest.digest != before.digest

    reload(smollm2)
    cards = httpx.get(f"{smollm2.url}/v1/adapters").json()["data"]
    assert manifest.digest in {card["digest"] for card in cards}
    given, withheld = (
        smollm2.post("/v1/generate", body | {"min_confidence": least}).json()["outputs"][0]
        for least in (0.01, 0.9999)
    )
    measures: dict[str, float] = {name: given["confidence"][name] for name in fitted.weights}
    assert given["confidence"]["p_correct"] == pytest.approx(fitted.p_correct(measures), abs=1e-6)
    assert given["text"]
    assert (withheld["text"], withheld["finish_reason"]) == ("", "abstained")


@pytest.mark.slow
def test_agreement_is_of_the_samples_that_several_answers_with_seeds_are(
    smollm2: Server, without_map: tuple[Path, GenerationManifest]
) -> None:
    folder, before = without_map
    drawn = {"samples": 3, "temperature": 1.2}
    section = CONFIDENCE | {"match": "json", "agreement": AGREEMENT | {"siblings": drawn}}
    fitted = ConfidenceMap.model_validate_json(json.dumps(section))
    assert fitted.agreement is not None
    write_manifest(folder, before.model_copy(update={"confidence": fitted}))
    reload(smollm2)
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[:2]:
        body = {"model": "commands", "messages": json.loads(line)["messages"], "max_tokens": 64}
        several = body | {"n": 3, "temperature": 1.2, "seed": 0}
        texts = [each["text"] for each in smollm2.post("/v1/generate", several).json()["outputs"]]
        answer = smollm2.post("/v1/generate", body | {"temperature": 0, "agreement": True}).json()
        (output,) = answer["outputs"]
        told = output["confidence"]
        assert told["agreement"] == agreement(output["text"], texts, "json")
        assert told.pop("p_correct") == pytest.approx(fitted.agreement.p_correct(told), abs=1e-6)
