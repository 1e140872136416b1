"""The configuration of a run: an error names the wrong key, and no training starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from training.config import load_finetune_settings

Run = Callable[..., Path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flavour": 1}, "flavour: unknown key"),
        ({"name": "Not A Name"}, "name: must match"),
        ({"training": {"epochs": 0}}, "training.epochs: must be greater than 0, got 0"),
        ({"lora": {"rank": 16}, "evaluation": {"engine": {"max_lora_rank": 8}}},
         "lora.rank: 16 is more than evaluation.engine.max_lora_rank 8"),
        ({"lora": {"rank": 0}}, "lora.rank: must be greater"),
        ({"split": {"test": 0.9}}, "the held-out shares are at most 0.9 together, got 1.2"),
        ({"prompt": None}, "prompt: a classification needs its template"),
        ({"prompt": {"template": "no input"}}, "exactly once"),
        ({"split": {"calibration": 0}}, "split.calibration: above 0 for classification"),
        ({"task": "generation", "split": {"calibration": 0}, "multi_label": True},
         "only for classification, task is generation"),
        ({"task": "generation", "split": {"calibration": 0}, "data": {"over_long": "truncate"}},
         "truncate is for classification only"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(run: Run, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_finetune_settings(run(**changes))
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["- a list", "a: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"run\.yaml"):
        load_finetune_settings(file)


def test_paths_are_relative_to_the_file(run: Run) -> None:
    file = run()
    settings = load_finetune_settings(file)
    assert settings.output == file.parent / "adapters/films"
    assert settings.data.files == (file.parent / "lines.jsonl",)
