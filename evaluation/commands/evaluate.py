"""`llm-service evaluate`: measure a running service by a suite of tasks.

Exit codes: 0 every threshold (bar) is met, 1 one is missed, 2 the suite or the service cannot be
used, 130 interrupted; what was measured by then is reported.
"""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from tqdm import tqdm

from evaluation.choices import Reading
from evaluation.client import Client
from evaluation.packed import SuiteCard, rewriting
from evaluation.report import Report, TaskResult, junit_xml, render_page
from evaluation.run import Run
from evaluation.suite import Suite, Task, load_suite
from service.common.command_line import one_message, print_table, require_extra
from service.common.files import write_atomically
from service.common.plain_yaml import read_mapping
from service.errors import ConfigurationError

_INTERRUPTED = 130

_Report = Annotated[
    Path | None,
    typer.Option(help="Folder for report.json, report.html, answers.jsonl and lm-eval's files."),
]
_Card = Annotated[
    Path | None,
    typer.Option(help="Folder of the adapter that is asked; its README.md gets the figures."),
]
_Junit = Annotated[
    Path | None, typer.Option(help="File for the bars as JUnit XML, a test case each.")
]


def evaluate(
    file: Annotated[Path, typer.Argument(help="YAML file of the suite.")],
    url: Annotated[
        str | None, typer.Option("--url", "-u", help="Any OpenAI-compatible service.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to ask; default the suite's, or the only one.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="File that holds the API key.")] = None,
    report: _Report = None,
    junit: _Junit = None,
    card: _Card = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a running service by a suite of tasks, and fail if a figure misses its threshold.

    Tasks are classification, multiple choice, generation, bias between two groups, robustness to
    noise, refusal, and lm-eval's own; docs/howto/evaluation.md says how to read them. An adapter or
    head of a training run is measured again by `llm-service finetune RUN --measure`.

    Exit codes: 0 every threshold is met, 1 one is missed, 2 the suite, its lines or the service
    cannot be used, 130 Ctrl-C.

    Example: llm-service evaluate deploy/local/suites/sentiment.yaml --url http://127.0.0.1:8000
    """
    if url is None:
        _measure_run(file, as_json, any((model, key_file, report, junit, card)))
        return
    with rewriting(card):
        if report is not None:
            require_extra("evaluation", "jinja2")
        suite, key = _suite(file), _key(key_file)
        of_card = (
            None if card is None else SuiteCard(card, Client(url, key, 1), model or suite.model)
        )
        if junit is not None:
            _open(junit).close()
        with _Progress(report) as progress:
            keep = None if report is None else report / "lm-eval"
            run = Run(suite, Client(url, key, concurrency), progress, keep)
            interrupted = _interrupted(run, model, report, junit)
        _show(run.report, as_json)
        if interrupted:
            raise typer.Exit(_INTERRUPTED)
        if of_card is not None:
            of_card.write(run.report)
    if run.report.failed:
        raise typer.Exit(1)


def _measure_run(file: Path, as_json: bool, has_options: bool) -> None:
    """Measure a training run's adapter, as this command did in earlier versions."""
    with one_message():
        if has_options:
            raise ConfigurationError(
                "--model, --key-file, --report, --junit, --card: only with --url"
            )
        if "tasks" in read_mapping(file):
            raise ConfigurationError(f"{file}: a suite needs --url, a service to measure")
        if importlib.util.find_spec("training") is None:
            raise ConfigurationError("--url: needed; `training`, which measures runs, is missing")
        from training.cli import measure_again

        typer.echo(
            "warning: without --url use `llm-service finetune RUN --measure`; the next version of "
            "evaluate measures services only",
            err=True,
        )
        measure_again(file, as_json)


def _interrupted(run: Run, model: str | None, folder: Path | None, junit: Path | None) -> bool:
    """Run the suite; True if Ctrl-C ended the run.

    Whatever ends it, the results of finished tasks are written.
    """
    try:
        asyncio.run(run.run(model))
        return False
    except KeyboardInterrupt:
        return True
    finally:
        if folder is not None:
            text = run.report.model_dump_json(indent=1) + "\n"
            write_atomically(folder / "report.json", text.encode())
            write_atomically(folder / "report.html", render_page(run.report).encode())
        if junit is not None:
            write_atomically(junit, junit_xml(run.report))


def _open(file: Path) -> IO[str]:
    """An empty file in a folder that is made if need be; ConfigurationError where it cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be written: {error.strerror}") from error


class _Progress:
    """A bar for each task on a terminal; in the report's folder a line for each answer."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._answers: IO[str] | None = None
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> "_Progress":
        if self._folder is not None:
            self._answers = _open(self._folder / "answers.jsonl")
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._bar, self._answers):
            if each is not None:
                each.close()

    def begun(self, task: Task, requests: int) -> None:
        """Begin a task's progress bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(total=requests, desc=task.name, leave=False, disable=None)

    def answered(self, task: Task, line: int, answer: str | Reading) -> None:
        """Advance the progress bar and keep the answer."""
        if self._bar is not None:
            self._bar.update()
        if self._answers is not None:
            said = {"probs": answer.probs} if isinstance(answer, Reading) else {"text": answer}
            row = json.dumps({"task": task.name, "line": line, **said}, ensure_ascii=False)
            self._answers.write(row + "\n")

    def ended(self, result: TaskResult) -> None:
        """Report that a task is measured."""
        if self._bar is not None:
            self._bar.close()  # else the message would stand on the bar's line
        typer.echo(f"{result.name}: measured", err=True)


def _suite(file: Path) -> Suite:
    if not file.exists():
        raise ConfigurationError(
            f"{file}: there is no such file: pass the YAML file of a suite; the package has none, "
            "a checkout those of deploy/local/suites"
        )
    return load_suite(file)


def _key(file: Path | None) -> str | None:
    """The key that a file holds."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the key cannot be read") from error


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        typer.echo(report.model_dump_json())
        return
    rows = [
        (
            task.name,
            m.name,
            f"{m.value:.3g}",
            f"{m.low:.3g} to {m.high:.3g}",
            m.bar or "",
            m.verdict or "",
        )
        for task in report.tasks
        for m in task.metrics
    ]
    print_table(("task", "metric", "value", "95 % interval", "bar", "verdict"), rows)
    for sentence in report.failed:
        typer.echo(f"fails: {sentence}", err=True)
    if not report.complete:
        typer.echo("interrupted: not every task was measured", err=True)
