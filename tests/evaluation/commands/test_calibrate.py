"""llm-service calibrate against a running service."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from evaluation.packed import CARD_FILE
from service.adapters.manifest import ClassificationManifest, GenerationManifest
from service.adapters.manifest_yaml import load_manifest
from service.classification.conformal import most_flagged
from service.cli.main import app
from service.common.files import file_digest
from tests.adapters.proven import proven, served_base, sources
from tests.adapters.samples import AdapterFolder, write_base
from tests.evaluation.calibration.samples import generator
from tests.live_service import LiveService

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


def calibrate(
    folder: Path, lines: Path, url: str, *more: str, command: str = "calibrate"
) -> Result:
    arguments = [command, str(folder), "--lines", str(lines), "--url", url, *more]
    return CliRunner().invoke(app, arguments)


def held_out(live: LiveService, file: Path) -> Path:
    """Lines of which the adapter answers one of three as they say, and one by an alternative."""
    rows: list[dict[str, object]] = []
    for number in range(COUNT):
        prompt = f"Question {number}"
        body = {"model": "writer", "prompt": prompt, "temperature": 0, "max_tokens": 128}
        answer = httpx.post(f"{live.url}/v1/generate", json=body).json()["outputs"][0]["text"]
        rows.append(
            {"prompt": prompt, "completion": f" {answer}\n" if number % 3 == 1 else "other"}
        )
        if number % 3 == 2:
            rows[-1]["alternatives"] = ["a third", answer]
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
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    assert card.startswith(
        "# writer\n\n## Confidence\n\nThe probability `p_correct`, measured on 60"
    )
    assert f"| AUROC | {manifest.confidence.figures.auroc:.3f} |" in card
    files = {**before.files, CARD_FILE: file_digest(folder / CARD_FILE)}
    changed = {"confidence": None, "files": manifest.files}
    assert manifest.files == files
    assert manifest.model_copy(update=changed) == before.model_copy(update={"files": files})
    again = calibrate(folder, lines, live.url)
    assert again.exit_code == 2
    assert "must serve writer with the folder's digest" in again.stderr


def test_agreement_is_asked_of_the_service_and_fitted_where_it_tells_more(
    live: LiveService, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "writer", held_out(live, tmp_path / "lines.jsonl")
    starts = live.engine.starts
    done = calibrate(folder, lines, live.url, "--agreement", "4", "--temperature", "0.7", "--json")
    assert done.exit_code == 0, done.stderr
    assert live.engine.starts == starts + 2 * COUNT
    # The samples of the fake engine have nothing to do with what is right.
    assert json.loads(done.stdout)["agreement"] is None
    too_few = calibrate(folder, lines, live.url, "--agreement", "1")
    assert too_few.exit_code == 2


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


HARMLESS = 120


def harmless(file: Path, count: int = HARMLESS) -> Path:
    file.write_text("".join(json.dumps({"text": f"harmless {n}"}) + "\n" for n in range(count)))
    return file


@pytest.fixture
def guarding(tmp_path: Path) -> Iterator[LiveService]:
    base = write_base(tmp_path / "base")
    asyncio.run(proven(tmp_path / "sentiment", served_base(base)))
    with LiveService(
        model_path=base,
        adapters=sources(tmp_path / "sentiment"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as service:
        yield service


def test_the_threshold_of_a_guard_spares_harmless_lines(
    guarding: LiveService, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "sentiment", harmless(tmp_path / "lines.jsonl")
    before = load_manifest(folder)
    options = ["--label", "negative", "--alpha", "0.1", "--json"]
    done = calibrate(folder, lines, guarding.url, *options, command="calibrate-guard")
    assert done.exit_code == 0, done.stderr
    manifest = load_manifest(folder)
    assert isinstance(manifest, ClassificationManifest)
    bound = manifest.guard
    assert bound is not None
    assert json.loads(done.stdout) == bound.model_dump(mode="json")
    assert (bound.labels, bound.lines) == (("negative",), HARMLESS)
    assert manifest.model_copy(update={"guard": None}) == before
    assert manifest.digest != before.digest
    texts = [json.loads(line)["text"] for line in lines.read_text().splitlines()]
    body = {"model": "sentiment", "input": texts}
    place = list(manifest.classification.labels).index("negative")
    data = httpx.post(f"{guarding.url}/v1/classify", json=body).json()["data"]
    reached = sum(each["probs"][place] >= bound.threshold for each in data)
    assert reached == most_flagged(HARMLESS, 0.1, 0.95)


@pytest.mark.parametrize(
    ("count", "options", "told"),
    [
        (120, ["--alpha", "0.02"], "at least 149 different harmless texts are needed"),
        (120, ["--label", "negativ"], "has no label 'negativ'; did you mean 'negative'?"),
        (120, ["--model", "other"], "must serve other with the folder's digest"),
    ],
)
def test_a_threshold_that_cannot_be_shown_is_refused(
    guarding: LiveService, tmp_path: Path, count: int, options: list[str], told: str
) -> None:
    lines = harmless(tmp_path / "lines.jsonl", count)
    options = ["--alpha", "0.1", "--label", "negative", *options]
    done = calibrate(
        tmp_path / "sentiment", lines, guarding.url, *options, command="calibrate-guard"
    )
    assert done.exit_code == 2
    assert told in done.stderr


def test_typical_inputs_are_counted(guarding: LiveService, tmp_path: Path) -> None:
    folder, lines = tmp_path / "sentiment", harmless(tmp_path / "lines.jsonl", 200)
    before = load_manifest(folder)
    done = calibrate(folder, lines, guarding.url, "--json", command="calibrate-drift")
    assert done.exit_code == 0, done.stderr
    manifest = load_manifest(folder)
    assert isinstance(manifest, ClassificationManifest)
    found = manifest.reference
    assert found is not None
    assert json.loads(done.stdout) == found.model_dump(mode="json")
    assert manifest.model_copy(update={"reference": None}) == before
    assert sum(found.labels.values()) == sum(found.scores) == sum(found.lengths) == 200
    assert found.lengths[:2] == (200, 0)  # at most 16 characters
    few = calibrate(folder, harmless(lines, 199), guarding.url, command="calibrate-drift")
    assert "at least 200 texts of typical traffic are needed, got 199" in few.stderr


def probs_of(live: LiveService, lines: Path) -> list[list[float]]:
    texts = [json.loads(line)["text"] for line in lines.read_text().splitlines()]
    body = {"model": "sentiment", "input": texts}
    data = httpx.post(f"{live.url}/v1/classify", json=body).json()["data"]
    return [each["probs"] for each in data]


def true_lines(file: Path, count: int, *, several: bool) -> Path:
    rows: list[dict[str, object]] = []
    for number in range(count):
        of = ("positive", "negative") if number % 3 else ("negative",)
        rows.append({"text": f"text {number}"} | ({"labels": of} if several else {"label": of[0]}))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_threshold_of_label_sets_is_written(guarding: LiveService, tmp_path: Path) -> None:
    folder, lines = tmp_path / "sentiment", true_lines(tmp_path / "lines", 60, several=False)
    before = load_manifest(folder)
    done = calibrate(folder, lines, guarding.url, "--json", command="calibrate-sets")
    assert done.exit_code == 0, done.stderr
    manifest = load_manifest(folder)
    assert isinstance(manifest, ClassificationManifest)
    conformal = manifest.classification.calibration.conformal
    assert conformal is not None
    assert isinstance(conformal.least, float)
    assert json.loads(done.stdout) == conformal.model_dump(mode="json")
    true = [row[0 if number % 3 else 1] for number, row in enumerate(probs_of(guarding, lines))]
    # ceil(61 * 0.9) of the 60 true labels.
    assert sum(prob >= conformal.least for prob in true) == 55
    assert manifest.digest != before.digest


def test_several_labels_get_a_threshold_each_and_sets_by_it(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapter = AdapterFolder(tmp_path / "sentiment", served_base(base))
    adapter.manifest["classification"]["multi_label"] = True
    del adapter.manifest["golden"]
    adapter.save()
    lines = true_lines(tmp_path / "lines", 60, several=True)

    def serving() -> LiveService:
        cache = {"path": tmp_path / "cache"}
        return LiveService(model_path=base, adapters=sources(adapter.path), adapter_cache=cache)

    with serving() as live:
        done = calibrate(adapter.path, lines, live.url, "--coverage=0.8", command="calibrate-sets")
        assert done.exit_code == 0, done.stderr
        probs = probs_of(live, lines)
    with serving() as live:
        body = {"model": "sentiment", "input": [f"text {number}" for number in range(60)]}
        answer = httpx.post(f"{live.url}/v1/classify", json=body).json()
    assert answer["conformal"]["coverage"] == 0.8
    least = answer["conformal"]["threshold"]
    # ceil(41 * 0.8) of the 40 texts that are positive, ceil(61 * 0.8) of all, which are negative.
    assert sum(row[0] >= least[0] for number, row in enumerate(probs) if number % 3) == 33
    assert sum(row[1] >= least[1] for row in probs) == 49
    for row, each in zip(probs, answer["data"], strict=True):
        names = zip(("positive", "negative"), row, least, strict=True)
        assert set(each["conformal_set"]) == {name for name, prob, cut in names if prob >= cut}


@pytest.mark.parametrize(
    ("count", "line", "told"),
    [
        (8, None, "at least 9 are needed for a coverage of 0.9, got 8"),
        (9, {"label": "postive"}, "has no label 'postive'; did you mean 'positive'?"),
        (9, {"labels": ["positive"]}, "sentiment needs `label` in each line, got `labels`"),
        (9, {}, "needs one of label and labels"),
    ],
)
def test_lines_that_promise_nothing_are_refused(
    guarding: LiveService,
    tmp_path: Path,
    count: int,
    line: dict[str, object] | None,
    told: str,
) -> None:
    lines = true_lines(tmp_path / "lines", count, several=False)
    if line is not None:
        with lines.open("a") as file:
            file.write(json.dumps({"text": "one more"} | line) + "\n")
    before = load_manifest(tmp_path / "sentiment")
    done = calibrate(tmp_path / "sentiment", lines, guarding.url, command="calibrate-sets")
    assert done.exit_code == 2
    assert told in done.stderr
    assert load_manifest(tmp_path / "sentiment") == before


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
