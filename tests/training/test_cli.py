"""`llm-service finetune`: exit codes, messages and output."""

import gc
import importlib.util
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.settings.tree import Settings
from tests.fake_engines import fake_engine
from tests.training.conftest import films
from training import finish
from training.models import LoraModel
from training.offline import OfflineModel

Run = Callable[..., Path]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def model(settings: Settings) -> AsyncIterator[OfflineModel]:
        # An engine takes its share of the memory that is free.
        assert not [each for each in gc.get_objects() if type(each) is LoraModel]
        yield OfflineModel(fake_engine()[0], 30.0)

    monkeypatch.setattr(finish, "offline_model", model)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def figures(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_run_ends_with_a_packed_adapter_and_its_figures(run: Run) -> None:
    file = run(films(200))
    first = figures(call("finetune", file, "--json"))
    assert first["adapter"]["lines"] == first["base"]["lines"]
    assert (file.parent / "adapters/films/adapter.yaml").is_file()
    assert figures(call("finetune", file, "--measure", "--json")) == first
    old = call("evaluate", file, "--json")
    assert figures(old) == first
    assert "warning: " in old.stderr
    assert "finetune RUN --measure" in old.stderr
    again = call("finetune", file, "--restart")
    assert again.exit_code == 0
    assert "accuracy: " in again.stdout
    assert "packed and proven" in again.stderr


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        ("{", {}, "lines.jsonl: line 1: "),
        (films(4), {}, "is empty: 4 groups of 4 different lines are too few"),
        (films(60), {"training": {"batch_tokens": 8}}, "batch_tokens: 8 is less than the longest"),
        (films(60), {"base": {"path": "nowhere"}}, "base.path"),
        (films(60), {"data": {"max_tokens": 8}}, "lines.jsonl: line "),
        (
            films(60),
            {"evaluation": {"engine": {"max_model_len": 8}}},
            "are more than the engine's context of 8; lower data.max_tokens 256 or raise",
        ),
    ],
)
def test_what_cannot_be_used_ends_with_code_2(
    run: Run,
    lines: Any,
    changes: dict[str, Any],
    message: str,
) -> None:
    file = run(lines, **changes)
    result = call("finetune", file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (file.parent / "adapters").exists()


def test_a_failed_proof_ends_with_code_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.measure.matches", lambda *_: True)
    lines = [{"prompt": f"say {n}", "completion": f"answer {n}"} for n in range(60)]
    file = run(lines, task="generation", prompt=None, split={"calibration": 0})
    result = call("finetune", file)
    assert result.exit_code == 1
    assert "refused: " in result.stderr
    assert list((file.parent / "adapters").iterdir()) == []


def test_without_the_extra_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "peft" else found(name)
    )
    result = call("finetune", run())
    assert result.exit_code == 2
    assert (
        "peft: not installed; they come with the extra `training`, in a checkout with `make dev`"
        in result.stderr
    )


def test_an_adapter_that_is_not_there_cannot_be_measured(run: Run) -> None:
    result = call("finetune", run(films(200)), "--measure")
    assert result.exit_code == 1
    assert "films" in result.stderr


def test_measuring_again_restarts_nothing(run: Run) -> None:
    result = call("finetune", run(), "--measure", "--restart")
    assert result.exit_code == 2
    assert "--restart: not with --measure" in result.stderr
