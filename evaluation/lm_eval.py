"""Tasks of lm-eval (EleutherAI's Language Model Evaluation Harness), run by its own program."""

import asyncio
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.client import Client
from evaluation.estimate import Estimate, Z, share
from evaluation.suite import LmEval
from service.common.files import write_atomically
from service.errors import ConfigurationError

_PROGRAM = "lm_eval"
_KEY = "OPENAI_API_KEY"
_TRIES = 5
_SHOWN = 600
_ROUTES = {
    "completions": ("local-completions", "/v1/completions"),
    "chat": ("local-chat-completions", "/v1/chat/completions"),
}
_NO_FILTER = ",none"


def check_task(task: LmEval) -> None:
    """Raise ConfigurationError where the program or the task's folder is missing."""
    _program()
    if task.include is not None and not task.include.is_dir():
        raise ConfigurationError(f"{task.name}: include: no such folder: {task.include}")


def _program() -> str:
    """Path of the program, in this interpreter's folder or on the PATH."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(_PROGRAM, path=places)
    if found is None:
        raise ConfigurationError(
            f"the program {_PROGRAM} is missing: install lm-eval[api] here, or "
            "lm-eval[api] at a place that PATH names"
        )
    return found


async def run_task(
    task: LmEval, client: Client, model: str, keep: Path | None
) -> dict[str, Estimate]:
    """Run lm-eval against the client's service, and return the task's metrics.

    The files that lm-eval writes are moved to the folder `keep`. The key is passed in the
    environment only. Raises ConfigurationError for a task that lm-eval cannot run.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "results")
        file = Path(folder, "run.json")  # JSON is YAML too
        write_atomically(file, json.dumps(run_arguments(task, client, model, written)).encode())
        await _run(file, task.include, client.key)
        if keep is not None:
            shutil.copytree(written, keep, dirs_exist_ok=True)
        return read_figures(written, task.task)


def run_arguments(task: LmEval, client: Client, model: str, written: Path) -> dict[str, Any]:
    """The configuration that `lm_eval run` takes; it writes into the folder `written`."""
    kind, path = _ROUTES[task.api]
    of_model = {
        "model": model,
        "base_url": client.url + path,
        "num_concurrent": client.concurrency,
        "max_retries": _TRIES,
    }
    if task.tokenizer is not None:
        of_model["tokenizer"] = task.tokenizer
    return {
        "model": kind,
        "model_args": of_model,
        "tasks": [task.task],
        "include_path": None if task.include is None else str(task.include),
        "num_fewshot": task.shots,
        "limit": task.limit,
        "apply_chat_template": task.api == "chat",
        "output_path": str(written),
        "log_samples": True,
    }


def read_figures(written: Path, name: str) -> dict[str, Estimate]:
    """The metrics of a task or group in the file of results in a folder.

    A share of lines has Wilson's interval. Other values have an interval of 1.96 standard errors by
    lm-eval, or no interval if it reports none. A metric of a filter is named `metric,filter`.
    Raises ConfigurationError where no such result can be read.
    """
    try:
        (file,) = written.rglob("results_*.json")
        found = json.loads(file.read_bytes())
        result, lines = found["results"][name], _lines(found, name)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ConfigurationError(f"lm-eval left no results of {name!r}") from problem
    metrics = {}
    for key, value in result.items():
        metric, _, of_filter = key.partition(",")
        if not of_filter or metric.endswith("_stderr") or not _is_number(value):
            continue
        deviation = result.get(f"{metric}_stderr,{of_filter}")
        spread = float(deviation) if _is_number(deviation) else math.inf
        metrics[key.removesuffix(_NO_FILTER)] = _estimate(float(value), spread, lines)
    if not metrics:
        raise ConfigurationError(
            f"lm-eval gave {name!r} no metrics: a group needs an aggregate_metric_list"
        )
    return metrics


def _estimate(value: float, error: float, lines: int) -> Estimate:
    """The estimate of a value with this standard error, which is infinite if it is unknown."""
    if 0 <= value <= 1 < lines:
        of_share = math.sqrt(value * (1 - value) / (lines - 1))
        if math.isclose(error, of_share, rel_tol=1e-6, abs_tol=1e-12):
            return share(round(value * lines), lines)
    half = Z * error
    return Estimate(value, value - half, value + half, lines, "standard error")


def _lines(found: Mapping[str, Any], name: str) -> int:
    """Lines that a task asked, or all tasks of a group."""
    counts = found["n-samples"]
    parts = found.get("group_subtasks", {}).get(name) or [name]
    return sum(int(counts[part]["effective"]) for part in parts if part in counts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


async def _run(file: Path, folder: Path | None, key: str | None) -> None:
    """Run the program in the tasks' folder, to which their files of lines are relative."""
    environment = {name: value for name, value in os.environ.items() if name != _KEY}
    if key is not None:
        environment[_KEY] = key
    process = await asyncio.create_subprocess_exec(
        _program(),
        "run",
        "--config",
        str(file),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = told.decode("utf-8", "replace").strip()[-_SHOWN:].rpartition("\n")[2]
        raise ConfigurationError(f"lm-eval ended with {process.returncode}: {last}")
