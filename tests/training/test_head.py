"""Heads: their examples, their loss, their training, and the folder that is packed."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from service.adapters.heads import HeadRefused, verify_head
from service.classification.encoder import answer_rows
from service.errors import ConfigurationError
from service.models.encoder import read_encoder
from tests.adapters.packed import ReferenceEncoder, values_of
from tests.served.tiny_encoder import build_tiny_encoder
from tests.training.conftest import Run, films
from training import finish
from training.config import FinetuneSettings
from training.examples import Example, HeadEncoder
from training.figures import ClassificationFigures
from training.finish import measure_and_pack, measure_packed
from training.lines import read_lines
from training.models import HeadModel
from training.offline import OfflineHead
from training.prepare import classification_task, fit_lengths, prepare
from training.train import train

Settings = Callable[..., FinetuneSettings]
ALL = {"epochs": 6, "learning_rate": 0.003, "patience": 24}


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BertModel without a head."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    build_tiny_encoder(folder, ["a", "b", "c"], spread=0.05)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture
def head_run(settings: Settings, encoder_folder: Path) -> Settings:
    """A run that trains a head on that encoder."""

    def wanted(lines: Any = None, **changes: Any) -> FinetuneSettings:
        base = {"name": "tiny", "path": str(encoder_folder)}
        kept = {"prompt": None, "base": base, "head": {}, "data": {"max_tokens": 64}}
        return settings(films(200) if lines is None else lines, **kept | changes)

    return wanted


@pytest.fixture(autouse=True)
def _reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers in place of vLLM, which tests/engine/test_heads.py starts."""

    @asynccontextmanager
    async def head(_: str, folder: Path, engine: dict[str, Any]) -> AsyncIterator[OfflineHead]:
        yield OfflineHead(ReferenceEncoder(folder))

    monkeypatch.setattr(finish, "offline_head", head)


def made(settings: FinetuneSettings) -> tuple[HeadModel, list[Example], list[str]]:
    lines = read_lines(settings)
    task = classification_task(settings, lines)
    assert task is not None
    examples = HeadEncoder(settings, task).encode(lines)
    return HeadModel(settings, task), examples, [line.key for line in lines]


async def test_a_loss_is_what_the_served_head_gives_its_label(
    head_run: Settings, tmp_path: Path
) -> None:
    model, examples, texts = made(head_run(films(8)))
    model.train(False)
    model.save(tmp_path / "saved")
    values = torch.tensor(await values_of(tmp_path / "saved", texts))
    log_probs = answer_rows(values[0].numpy(), multi_label=False)[0]
    (label,) = examples[0].labels
    with torch.inference_mode():
        assert model.loss(examples[:1])[0].item() == pytest.approx(-log_probs[label], rel=1e-4)
        total, weight = model.loss(examples)
    wanted = torch.tensor([each.labels[0] for each in examples])
    by_hand = torch.nn.functional.cross_entropy(values, wanted, reduction="sum")
    assert (total.item(), weight) == (pytest.approx(by_hand.item(), rel=1e-4), 8)


async def test_labels_that_apply_by_themselves_are_learnt_one_by_one(
    head_run: Settings, tmp_path: Path
) -> None:
    lines = [{"text": f"good film {n}", "labels": ["a", "b"][: n % 3]} for n in range(6)]
    model, examples, texts = made(head_run(lines, multi_label=True))
    model.train(False)
    model.save(tmp_path / "saved")
    rows = [
        answer_rows(torch.tensor(values).numpy(), multi_label=True)
        for values in await values_of(tmp_path / "saved", texts)
    ]
    by_hand = -sum(
        row[place][0 if place in example.labels else 1]
        for row, example in zip(rows, examples, strict=True)
        for place in range(2)
    )
    with torch.inference_mode():
        assert model.loss(examples)[0].item() == pytest.approx(by_hand, rel=1e-4)


def test_over_long_texts_are_cut_to_their_beginning(head_run: Settings) -> None:
    lines = [{"text": "Good Film! " * 9 + word, "label": word} for word in ("good", "bad")]
    wanted = head_run(lines, data={"max_tokens": 12, "over_long": "truncate"})
    read = read_lines(wanted)
    task = classification_task(wanted, read)
    assert task is not None
    fitted = fit_lengths(read, HeadEncoder(wanted, task), wanted)
    assert fitted.truncated == 2
    assert {line.key for line in fitted.lines} == {"Good Film! Good Film! Good Film! Good"}


def test_a_head_alone_leaves_the_encoder_as_it_is(head_run: Settings, encoder_folder: Path) -> None:
    wanted = head_run(head={"last_layers": 0}, training={"epochs": 1})
    folder, _ = train(wanted, prepare(wanted))
    before, after = (load_file(each / "model.safetensors") for each in (encoder_folder, folder))
    moved = {
        name for name, tensor in before.items() if not torch.equal(tensor, after[f"bert.{name}"])
    }
    assert moved == {"pooler.dense.weight", "pooler.dense.bias"}


def test_the_last_layers_learn_with_it(head_run: Settings) -> None:
    model, _, _ = made(head_run(films(4), head={"last_layers": 1}))
    layers = {name.split(".")[3] for name in model.parameters if ".layer." in name}
    assert layers == {"1"}
    assert not any("embeddings" in name for name in model.parameters)


async def test_lines_become_a_head_that_is_calibrated_and_proven(head_run: Settings) -> None:
    wanted = head_run(training=ALL)
    prepared = prepare(wanted)
    trained, report = train(wanted, prepared)
    evaluation = await measure_and_pack(wanted, prepared, trained, report)
    assert evaluation is not None
    assert isinstance(evaluation.figures, ClassificationFigures)
    assert evaluation.figures.accuracy > 0.9
    assert report.state.looks[-1][1] < 0.9 * math.log(2)
    head = verify_head(wanted.output, read_encoder(wanted.output))
    assert head is not None
    assert head.labels == ("negative", "positive")
    assert head.calibration.conformal is not None
    assert len(head.fingerprint) == 4
    measured = head.evaluation["test"]
    assert isinstance(measured, dict)
    assert measured["accuracy"] == round(evaluation.figures.accuracy, 4)
    assert "test_of_the_base" not in head.evaluation
    assert all(each.stat().st_mode & 0o044 == 0o044 for each in wanted.output.iterdir())
    card = (wanted.output / "README.md").read_text()
    assert f"| accuracy | {evaluation.figures.accuracy:.3f} |\n" in card
    assert "A classification head on tiny" in card
    again = await measure_packed(wanted, prepare(wanted))
    assert again.figures == evaluation.figures


async def test_a_head_that_fails_its_proof_takes_no_place(
    head_run: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other_values(*_: object) -> tuple[tuple[float, ...], ...]:
        return ((9.0, 0.0), (0.0, 9.0))

    monkeypatch.setattr("training.offline.head_fingerprint", other_values)
    wanted = head_run(training=ALL)
    prepared = prepare(wanted)
    trained, report = train(wanted, prepared)
    with pytest.raises(HeadRefused, match="proof: expected values within"):
        await measure_and_pack(wanted, prepared, trained, report)
    assert not wanted.output.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": {"template": "{input}:"}}, "prompt: a head has none"),
        ({"labels": {"positive": " yes", "negative": " no"}}, "labels: a head has none"),
        ({"lora": {"rank": 4}}, "lora: a head has none"),
        ({"task": "generation", "split": {"calibration": 0}}, "head: only for classification"),
        ({"data": {"max_tokens": 65}}, "data.max_tokens: 65 is more than the 64 tokens"),
        ({"head": {"last_layers": 3}}, "head.last_layers: 3; the encoder has 2 layers"),
    ],
)
def test_runs_that_cannot_train_a_head(
    head_run: Settings, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        made(head_run(films(8), **changes))


def test_a_language_model_gets_no_head(run: Run, head_run: Settings, base_folder: Path) -> None:
    wanted = head_run(films(8), base={"name": "tiny", "path": str(base_folder)})
    with pytest.raises(ConfigurationError, match="LlamaForCausalLM is a language model"):
        prepare(wanted)
