"""`llm-service evaluate --card`, and changes of a packed head's manifest."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evaluation.packed import CARD_FILE, rewrite_manifest
from evaluation.report import Report
from service.adapters import heads
from service.adapters.formats import GuardBound
from service.adapters.heads import HeadRefused, verify_head
from service.adapters.manifest_yaml import load_manifest
from service.cli.main import app
from service.common.files import file_digest
from service.models.encoder import read_encoder
from service.models.file_list import LIST_FILE, read_file_list
from tests.adapters.packed import packed_head
from tests.adapters.proven import proven, served_base, sources
from tests.adapters.samples import write_base
from tests.evaluation.suites import write_suite
from tests.live_service import MODEL, LiveService

LINES = [{"text": f"text {n}", "label": ("positive", "negative")[n % 2]} for n in range(6)]
TASK = {
    "name": "reviews",
    "kind": "classification",
    "lines": "films.jsonl",
    "licence": "MIT",
    "bars": {"accuracy": ">= 0", "brier": "<= -1"},
}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    base = write_base(tmp_path / "base")
    asyncio.run(proven(tmp_path / "sentiment", served_base(base)))
    with LiveService(
        model_path=base,
        adapters=sources(tmp_path / "sentiment"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as service:
        yield service


def evaluate(live: LiveService, folder: Path, card: Path) -> Result:
    suite = write_suite(folder, TASK, lines=LINES, name="films", model="sentiment")
    given = ["evaluate", str(suite), "--url", live.url, "--card", str(card), "--json"]
    return CliRunner().invoke(app, given)


def test_the_card_tells_figures_and_bars_and_its_digest_is_the_manifests(
    live: LiveService, tmp_path: Path
) -> None:
    folder = tmp_path / "sentiment"
    before = load_manifest(folder)
    done = evaluate(live, tmp_path, folder)
    assert done.exit_code == 1, done.output  # the bar of the Brier score fails
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    assert "## Suite films\n\nMeasured by `llm-service evaluate` on 20" in card
    accuracy = Report.model_validate_json(done.stdout).tasks[0].metrics[0]
    figures = f"{accuracy.value:.3g} | {accuracy.low:.3g} to {accuracy.high:.3g}"
    assert f"| reviews | accuracy | {figures} | 6 | >= 0: stands |" in card
    assert " | 6 | <= -1: fails |" in card
    assert "|  | errors of the surest 50, 80, 100 % | " in card
    after = load_manifest(folder)
    assert after.files == {**before.files, CARD_FILE: file_digest(folder / CARD_FILE)}
    again = evaluate(live, tmp_path, folder)
    assert again.exit_code == 2
    assert "must serve sentiment with the folder's digest" in again.stderr
    assert (folder / CARD_FILE).read_text(encoding="utf-8") == card


def test_a_folder_that_is_not_the_models_is_refused_before_any_line(
    live: LiveService, tmp_path: Path
) -> None:
    folder = tmp_path / "sentiment"
    suite = write_suite(tmp_path, TASK, lines=LINES, model="sentiment")
    command = ["evaluate", str(suite), "--url", live.url, "--card", str(folder), "--model", MODEL]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "must be of the model that is asked, got sentiment" in done.stderr
    assert not (folder / CARD_FILE).exists()
    missing = evaluate(live, tmp_path, tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "refused" in missing.stderr


BOUND = GuardBound(labels=("sports",), threshold=0.123456789, alpha=0.01, confidence=0.95, lines=9)


async def test_the_folder_is_whole_with_another_manifest(tmp_path: Path) -> None:
    head = await packed_head(tmp_path / "head")
    before = read_file_list(tmp_path / "head")
    rewrite_manifest(tmp_path / "head", head.model_copy(update={"guard": BOUND}))
    found = verify_head(tmp_path / "head", read_encoder(tmp_path / "head"))
    assert found is not None
    assert found.guard == BOUND
    assert found.guard_threshold == (("sports",), 0.123456789)
    after = read_file_list(tmp_path / "head")
    assert before is not None
    assert after is not None
    assert after.digest != before.digest
    assert after.source == before.source


async def test_a_label_of_another_head_is_refused(tmp_path: Path) -> None:
    bound = BOUND.model_dump() | {"labels": ["spam"]}
    with pytest.raises(HeadRefused, match=r"guard\.labels: must be labels of .*, found spam"):
        await packed_head(tmp_path / "head", guard=bound)
    (tmp_path / "head" / LIST_FILE).unlink()
    (tmp_path / "head" / "head.json").unlink()
    assert heads.load_manifest(tmp_path / "head") is None
