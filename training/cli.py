"""`llm-service finetune`: make an adapter or a head, or measure a packed one again.

The import of this module, as an entry point, also adds the commands of `adapter_commands` and
`model_commands`.

Exit codes: 0 success, 1 it is refused or fails its proof, 2 the command, its configuration
or its data cannot be used.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.common.command_line import one_message, quiet_engine, require_extra
from service.errors import ConfigurationError
from service.models.file_list import read_file_list
from service.sources.reference import FileRefused
from training import adapter_commands as adapter_commands
from training import model_commands as model_commands

if TYPE_CHECKING:
    from training.measure import Evaluation


def finetune(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    restart: Annotated[
        bool, typer.Option("--restart", help="Ignore the checkpoint and train from the beginning.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure what is packed again, and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train an adapter, or an encoder's head, on labelled lines; measure, pack and prove it.

    The adapter or head is measured on the engine that serves. A run that was interrupted goes on
    from its last checkpoint.

    Exit codes: 0 success, 1 it is refused or fails its proof, 2 the configuration or the data
    cannot be used.

    The keys of a run, and an example: docs/howto/finetuning.md. A changed run begins anew with
    --restart.

    Examples:

      llm-service finetune run.yaml

      llm-service finetune run.yaml --measure --json
    """
    with one_message():
        if not measure:
            _train(config, restart, as_json)
        elif restart:
            raise ConfigurationError("--restart: not with --measure, which trains nothing")
        else:
            measure_again(config, as_json)


def _train(config: Path, restart: bool, as_json: bool) -> None:
    _make_ready()
    from training.config import load_finetune_settings
    from training.finish import measure_and_pack
    from training.models import give_back_memory
    from training.prepare import prepare
    from training.train import CHECKPOINT_FILE, train

    settings = load_finetune_settings(config)
    if restart:
        (settings.work / CHECKPOINT_FILE).unlink(missing_ok=True)
    prepared = prepare(settings)
    trained, report = train(settings, prepared)
    give_back_memory()  # the engine takes a share of the free memory
    with _measuring():
        evaluation = asyncio.run(measure_and_pack(settings, prepared, trained, report))
    _show(evaluation, as_json)
    typer.echo(f"packed and proven: {settings.output}", err=True)
    if settings.head is not None and (listed := read_file_list(settings.output)):
        typer.echo(f"digest: {listed.digest}", err=True)


def measure_again(config: Path, as_json: bool) -> None:
    """Measure the adapter or head of a run again, as it is packed; nothing is written.

    Raises ConfigurationError like the run itself.
    """
    _make_ready()
    from training.config import load_finetune_settings
    from training.finish import measure_packed
    from training.prepare import prepare

    settings = load_finetune_settings(config)
    with _measuring():
        evaluation = asyncio.run(measure_packed(settings, prepare(settings)))
    _show(evaluation, as_json)


@contextmanager
def _measuring() -> Iterator[None]:
    from training.offline import importing_vllm

    try:
        with importing_vllm():
            yield
    except FileRefused as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from None


def _make_ready() -> None:
    require_extra("training", "peft", "sklearn", "sacrebleu", "matplotlib", "torch")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Have waiting threads sleep: on a machine that others use, spinning ones delay the run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    quiet_engine()


def _show(evaluation: "Evaluation | None", as_json: bool) -> None:
    if evaluation is None:
        return
    from training.report import plain_figures

    measured = plain_figures(evaluation.figures)
    if evaluation.base is None:
        rows, compared = {"head": measured}, dict.fromkeys(measured, "")
    else:
        base = plain_figures(evaluation.base)
        rows = {"adapter": measured, "base": base}
        compared = {name: f" (base: {base.get(name)})" for name in measured}
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for name, figures in measured.items():
        typer.echo(f"{name}: {_shown(figures)}{compared[name]}")


def _shown(figures: object) -> str:
    if isinstance(figures, list):
        return "; ".join(map(_shown, figures))
    if isinstance(figures, dict):
        return ", ".join(f"{name} {value}" for name, value in figures.items())
    return str(figures)
