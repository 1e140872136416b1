"""The loss is what serving would score: the trie's fold, or the answer's tokens."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch

from service.classification.scorer import LabelTrie
from training.config import FinetuneSettings, TrainingSettings
from training.examples import Example, ExampleEncoder
from training.lines import read_lines
from training.models import LoraModel, batch_loss, dtype_of
from training.prepare import classification_task

Settings = Callable[..., FinetuneSettings]
LABELS = ("turn_on", "turn_off", "stop", "New", "New York")


def next_log_probs(model: LoraModel, ids: Sequence[int]) -> torch.Tensor:
    """Full-vocabulary log-probabilities after one sequence, alone and without padding."""
    tokens = torch.tensor([list(ids)])
    with torch.inference_mode():
        states = model.hidden(tokens, torch.ones_like(tokens))
        return model.logits(states[:, -1]).log_softmax(dim=1)[0]


def scored(model: LoraModel, trie: LabelTrie, prompt: Sequence[int]) -> list[float]:
    """Log P of each label as serving computes it, from one read after the other."""
    reads = [
        next_log_probs(model, [*prompt, *read.prefix])[list(read.token_ids)].tolist()
        for read in trie.reads
    ]
    return list(trie.combine(reads))


def encoded(settings: FinetuneSettings) -> tuple[ExampleEncoder, Sequence[Example]]:
    lines = read_lines(settings)
    encoder = ExampleEncoder(settings, classification_task(settings, lines))
    return encoder, encoder.encode(lines)


def test_a_labels_loss_is_what_the_trie_scores(settings: Settings) -> None:
    wanted = settings(
        [{"text": f"take {n} of it"[: 4 + n], "label": name} for n, name in enumerate(LABELS)]
    )
    encoder, examples = encoded(wanted)
    model = LoraModel(wanted)
    model.train(False)
    (question,) = encoder.questions
    names, trie = question.scorer.trie.names, question.scorer.trie
    assert len(trie.reads) > 2, "the labels must part at several places"
    # Every label parts from the others at the trie's first branch, right after the prompt.
    prompts = [each.token_ids[: each.choices[0].position + 1] for each in examples]
    expected = [
        -scored(model, trie, prompt)[names.index(each.label)]
        for prompt, each in zip(prompts, examples, strict=True)
    ]
    losses = [batch_loss(model, [each])[0].item() for each in examples]
    assert losses == pytest.approx(expected, abs=1e-5)
    total, weight = batch_loss(model, examples)
    assert total.item() == pytest.approx(sum(losses), abs=1e-4), "padding changes nothing"
    assert weight == len(examples)


def test_weights_weigh(settings: Settings) -> None:
    wanted = settings()
    _, examples = encoded(wanted)
    model = LoraModel(wanted)
    model.train(False)
    one, two = examples[:2]
    plain = [batch_loss(model, [each])[0].item() for each in (one, two)]
    total, weight = batch_loss(model, [replace(one, weight=3.0), two])
    assert total.item() == pytest.approx(3 * plain[0] + plain[1], abs=1e-5)
    assert weight == 4.0


def test_an_answers_loss_is_that_of_its_tokens(settings: Settings) -> None:
    lines = [{"prompt": "the film", "completion": " was good"}, {"prompt": "a", "completion": "b"}]
    wanted = settings(lines, task="generation", prompt=None, split={"calibration": 0})
    _, examples = encoded(wanted)
    model = LoraModel(wanted)
    model.train(False)
    expected = 0.0
    for each in examples:
        for at in range(each.answer_at, len(each.token_ids)):
            expected -= next_log_probs(model, each.token_ids[:at])[each.token_ids[at]].item()
    total, count = batch_loss(model, examples)
    assert total.item() == pytest.approx(expected, abs=1e-4)
    assert count == sum(len(each.token_ids) - each.answer_at for each in examples)


def test_only_the_adapter_is_trained(settings: Settings) -> None:
    wanted = settings()
    model = LoraModel(wanted)
    assert model.parameters
    assert all("lora_" in name for name in model.parameters)
    assert {each.dtype for each in model.parameters.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("processor", "stated", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bw": True}, "auto", torch.bfloat16),
        ({"architecture": "x86_64", "avx512_bw": False}, "auto", torch.float32),
        ({"architecture": "x86_64", "avx512_bw": False}, "bfloat16", torch.bfloat16),
        ({"architecture": "aarch64"}, "auto", torch.bfloat16),
    ],
)
def test_the_processor_decides_the_type_of_an_auto_run(
    monkeypatch: pytest.MonkeyPatch,
    processor: dict[str, object],
    stated: Literal["auto", "bfloat16"],
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert dtype_of(TrainingSettings(dtype=stated, device="cpu")) is expected
