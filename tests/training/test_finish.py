"""From lines to a packed and proven adapter, on the fake engine in the real one's place."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.adapters.formats import AdapterRefused
from service.adapters.golden import GenerationExample
from service.adapters.manifest import ClassificationManifest, GenerationManifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.verify import verify
from service.errors import ConfigurationError
from service.models.base_model import read_base_model
from service.settings.tree import Settings as ServiceSettings
from tests.fake_engines import fake_engine
from tests.training.conftest import films
from training import finish
from training.config import FinetuneSettings
from training.figures import ClassificationFigures
from training.finish import replacing
from training.golden import Candidate
from training.measure import Evaluation
from training.offline import OfflineModel
from training.prepare import prepare
from training.train import train

Settings = Callable[..., FinetuneSettings]
LABELS = ("positive", "negative")
GENERATION: dict[str, Any] = {
    "task": "generation", "prompt": None, "split": {"calibration": 0}
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def model(settings: ServiceSettings) -> AsyncIterator[OfflineModel]:
        yield OfflineModel(fake_engine()[0], 30.0)

    monkeypatch.setattr(finish, "offline_model", model)


async def made(settings: FinetuneSettings) -> Evaluation | None:
    prepared = prepare(settings)
    folder, report = train(settings, prepared)
    return await finish.measure_and_pack(settings, prepared, folder, report)


async def test_a_classifier_is_measured_packed_and_verified(
    settings: Settings, base_folder: Path
) -> None:
    wanted = settings(films(200))
    evaluation = await made(wanted)
    base = read_base_model(base_folder, name="tiny", max_rank=8)
    verified = verify(wanted.output, base)
    manifest = verified.manifest
    assert isinstance(manifest, ClassificationManifest)
    assert manifest.fingerprint is not None
    assert (manifest.license, manifest.base_license) == (None, None)
    assert list(manifest.classification.labels) == ["negative", "positive"]
    assert manifest.classification.calibration.conformal is not None
    assert sorted(manifest.files) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "confusion.png",
        "golden.jsonl", "reliability.png", "risk.png", "training.png",
    ]  # fmt: skip
    assert evaluation is not None
    assert isinstance(evaluation.figures, ClassificationFigures)
    test = manifest.evaluation["test"]
    assert isinstance(test, dict)
    assert test["accuracy"] == round(evaluation.figures.accuracy, 4)
    card = (wanted.output / "README.md").read_text()
    assert f"| accuracy | {evaluation.figures.accuracy:.3f} |" in card
    assert str(base_folder) not in card + (wanted.output / "adapter_config.json").read_text()


async def test_golden_examples_may_come_from_lines_of_their_own(
    settings: Settings, tmp_path: Path
) -> None:
    own = [f'{{"text": "own {n}", "label": "{name}"}}' for n in range(20) for name in LABELS]
    (tmp_path / "own.jsonl").write_text("\n".join(own))
    wanted = settings(films(200), evaluation={"golden_file": "own.jsonl", "golden": 4})
    await made(wanted)
    golden = (wanted.output / "golden.jsonl").read_text()
    assert golden.count('"own ') == 4
    assert "lines written as examples" in (wanted.output / "README.md").read_text()


async def test_several_labels_are_measured_one_by_one(settings: Settings) -> None:
    lines = [{"text": f"text {n}", "labels": ["a", "b"][: n % 3]} for n in range(120)]
    wanted = settings(lines, multi_label=True)
    evaluation = await made(wanted)
    assert evaluation is not None
    assert isinstance(evaluation.figures, ClassificationFigures)
    (conformal,) = evaluation.figures.conformal
    assert conformal.measured >= 0.5
    manifest = load_manifest(wanted.output)
    assert isinstance(manifest, ClassificationManifest)
    packed = manifest.classification.calibration.conformal
    assert packed is not None
    assert (packed.coverage, len(packed.least)) == (conformal.coverage, 2)  # type: ignore[arg-type]


async def test_a_generator_that_fails_its_proof_takes_no_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the fake engine says cannot be learnt: its answers are called right all the same.
    def right(example: GenerationExample, *_: object) -> Candidate:
        return Candidate(example.model_dump(exclude_unset=True), "", True, False, 1.0)

    monkeypatch.setattr("training.measure._generation_candidate", right)
    lines = [{"prompt": f"say {n}", "completion": f"answer {n}"} for n in range(60)]
    wanted = settings(lines, **GENERATION, evaluation={"golden_accuracy": 0.01, "max_tokens": 4})
    with pytest.raises(AdapterRefused, match="proof: expected an accuracy"):
        await made(wanted)
    assert not wanted.output.exists()
    assert list(wanted.output.parent.iterdir()) == []


async def test_lines_that_the_base_answers_as_well_cannot_become_golden(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.measure.matches", lambda *_: True)
    lines = [{"prompt": f"say {n}", "completion": f"answer {n}"} for n in range(60)]
    wanted = settings(lines, **GENERATION, evaluation={"max_tokens": 4})
    with pytest.raises(AdapterRefused, match=r"cannot be filled: .* correctly, the base 12;"):
        await made(wanted)
    assert not wanted.output.exists()


async def test_pretraining_is_packed_without_answers_to_compare(settings: Settings) -> None:
    lines = [{"text": f"the film {n} was good, a very good film."} for n in range(60)]
    wanted = settings(lines, **(GENERATION | {"task": "pretraining"}))
    assert await made(wanted) is None
    manifest = load_manifest(wanted.output)
    assert isinstance(manifest, GenerationManifest)
    assert manifest.golden is None
    assert "validation_loss" in str(manifest.evaluation)


async def test_an_adapter_is_measured_again_without_a_write(settings: Settings) -> None:
    wanted = settings(films(200))
    first = await made(wanted)
    before = {file: file.stat().st_mtime_ns for file in wanted.output.iterdir()}
    again = await finish.measure_packed(wanted, prepare(wanted))
    assert first is not None
    assert again.figures == first.figures
    assert {file: file.stat().st_mtime_ns for file in wanted.output.iterdir()} == before


@pytest.mark.parametrize(
    ("part", "value", "moved", "same"),
    [
        ("temperature", 20.0, "ece", "ece_before"),
        ("conformal", {"coverage": 0.9, "threshold": 0.0}, "conformal", "ece"),
    ],
)
async def test_a_wrong_calibration_shows_when_it_is_measured_again(
    settings: Settings, part: str, value: object, moved: str, same: str
) -> None:
    wanted = settings(films(200))
    first = await made(wanted)
    file = wanted.output / "adapter.yaml"
    manifest = yaml.safe_load(file.read_text())
    manifest["classification"]["calibration"][part] = value
    file.write_text(yaml.safe_dump(manifest))
    again = await finish.measure_packed(wanted, prepare(wanted))
    assert first is not None
    assert getattr(again.figures, moved) != getattr(first.figures, moved)
    assert getattr(again.figures, same) == getattr(first.figures, same)


async def test_a_second_run_replaces_the_first(settings: Settings) -> None:
    await made(settings(films(200)))
    wanted = settings(films(200), version="1.0.1")
    await made(wanted)
    assert "1.0.1" in (wanted.output / "README.md").read_text()
    assert [each.name for each in wanted.output.parent.iterdir()] == ["films"]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def write_half(output: Path, error: BaseException) -> None:
    with replacing(output) as folder:
        (folder / "a").write_text("half")
        raise error


def test_a_folder_takes_its_place(tmp_path: Path) -> None:
    output = tmp_path / "adapters" / "films"
    with replacing(output) as folder:
        (folder / "a").write_text("new")
        assert not output.exists()
    assert names(output.parent) == ["films"]
    assert (output / "a").read_text() == "new"


def test_it_replaces_what_was_there_as_a_whole(tmp_path: Path) -> None:
    output = tmp_path / "films"
    output.mkdir()
    (output / "old").write_text("old")
    with replacing(output) as folder:
        (folder / "a").write_text("new")
    assert names(output) == ["a"]
    assert names(tmp_path) == ["films"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("proof")])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    output = tmp_path / "films"
    output.mkdir()
    (output / "old").write_text("old")
    with pytest.raises(type(error)):
        write_half(output, error)
    assert names(tmp_path) == ["films"]
    assert names(output) == ["old"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "films"
    full = OSError(28, "No space left on device")
    with pytest.raises(ConfigurationError, match=r"films cannot be written: .*No space left"):
        write_half(output, full)
    assert names(tmp_path) == []
