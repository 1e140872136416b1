"""The loop: reproducible, resumable after a kill, stopped when it gets no better."""

import gc
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.errors import ConfigurationError
from tests.training.conftest import films
from training.config import FinetuneSettings, load_finetune_settings
from training.models import LoraModel, TrainableModel, give_back_memory
from training.prepare import prepare
from training.train import CHECKPOINT_FILE, TrainingState, fingerprint, load_checkpoint, train

Settings = Callable[..., FinetuneSettings]
Run = Callable[..., Path]

SLOWLY = """
import json, sys, time
from pathlib import Path
from training import train as training
from training.config import load_finetune_settings
from training.prepare import prepare
from training.train import train
step = training.Training._step
def slow(self, state, bar):
    step(self, state, bar)
    print(state.step, flush=True)
    time.sleep(float(sys.argv[2]))
training.Training._step = slow
settings = load_finetune_settings(Path(sys.argv[1]))
train(settings, prepare(settings))
"""


def trained(settings: FinetuneSettings) -> TrainingState:
    return train(settings, prepare(settings))[1].state


def test_it_learns(settings: Settings) -> None:
    state = trained(settings(films(300), training={"epochs": 6, "learning_rate": 0.02}))
    assert state.looks[-1][1] < 0.9 * math.log(2), "no better than a coin"
    assert state.best_step == min(state.looks, key=lambda look: look[1])[0]


def test_the_seed_decides(settings: Settings) -> None:
    one = trained(settings(work="one"))
    same = trained(settings(work="two"))
    other = trained(settings(work="three", training={"seed": 1}))
    assert one.curve == same.curve
    assert one.curve != other.curve


def test_nothing_holds_the_model_when_the_engine_starts(settings: Settings) -> None:
    done = train(chosen := settings(), prepare(chosen))
    give_back_memory()
    assert done[0].is_dir()
    assert [each for each in gc.get_objects() if type(each) in (LoraModel, TrainableModel)] == []


def test_a_killed_run_goes_on_with_the_same_curve(run: Run) -> None:
    changes = {"training": {"epochs": 3, "checkpoint_s": 0.0}, "lora": {"dropout": 0.1}}
    whole = trained(load_finetune_settings(run(work="whole", **changes)))
    file = run(work="killed", **changes)
    killed_after = 5
    command = [sys.executable, "-c", SLOWLY, str(file), "0.05"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == killed_after:
                break
        process.send_signal(signal.SIGKILL)
    settings = load_finetune_settings(file)
    left = load_checkpoint(settings.work, fingerprint(settings))
    assert left is not None
    assert killed_after - 1 <= left.step < len(whole.curve)
    resumed = trained(settings)
    assert resumed.curve == whole.curve
    assert resumed.looks == whole.looks
    for name, weights in whole.best.items():
        assert torch.equal(weights, resumed.best[name])


def test_it_stops_when_it_gets_no_better(settings: Settings) -> None:
    # At this rate the loss goes up.
    wild = {"learning_rate": 1.0, "epochs": 50, "evaluations": 1, "patience": 2, "clip": 100.0}
    state = trained(settings(training=wild))
    assert state.finished
    assert len(state.looks) < 50
    worse = [loss for step, loss in state.looks if step > state.best_step]
    assert len(worse) == 2
    assert min(worse) >= min(loss for _, loss in state.looks)


def test_a_checkpoint_of_another_run_is_refused(settings: Settings) -> None:
    trained(settings())
    with pytest.raises(ConfigurationError, match="belongs to another configuration, data or base"):
        trained(settings(training={"learning_rate": 0.02}))


def test_a_broken_checkpoint_is_refused(settings: Settings) -> None:
    wanted = settings()
    wanted.work.mkdir()
    (wanted.work / CHECKPOINT_FILE).write_bytes(b"half")
    with pytest.raises(ConfigurationError, match="cannot be read; --restart starts anew"):
        trained(wanted)


def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(training={"checkpoint_s": 0.0})
    written = os.fsync
    calls = 0

    def full_after_two(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(28, "No space left on device")
        written(descriptor)

    monkeypatch.setattr("os.fsync", full_after_two)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        trained(wanted)
    monkeypatch.undo()
    left = load_checkpoint(wanted.work, fingerprint(wanted))
    assert left is not None
    assert left.step == 2
    assert [file.name for file in wanted.work.iterdir()] == [CHECKPOINT_FILE]


def test_what_is_saved_is_pefts_own_in_bfloat16(settings: Settings) -> None:
    from safetensors.torch import load_file

    wanted = settings()
    folder, _ = train(wanted, prepare(wanted))
    assert sorted(f.name for f in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == sorted(wanted.lora.modules)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert {each.dtype for each in tensors.values()} == {torch.bfloat16}


def test_cuda_where_there_is_none_is_refused(settings: Settings) -> None:
    if torch.cuda.is_available():
        assert str(trained(settings(training={"device": "cuda"})).finished) == "True"
        return
    with pytest.raises(ConfigurationError, match=r"training\.device: cuda, but torch finds no"):
        trained(settings(training={"device": "cuda"}))


def test_too_many_layers_are_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="last_layers: 2; the base has 1 layers"):
        trained(settings(lora={"last_layers": 2}))
