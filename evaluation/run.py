"""A suite's run against a service, task by task."""

import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evaluation import lm_eval
from evaluation.answers import answer_figures, generate_answer, refusal_figures
from evaluation.choices import (
    Chosen,
    Reading,
    bias_figures,
    choice_figures,
    classification_figures,
    decision_figures,
    robustness_figures,
)
from evaluation.client import Client, Refused
from evaluation.decide import read_decision
from evaluation.labels import LabelReader, Question
from evaluation.lines import (
    AskedLine,
    CallsLine,
    ChoiceLine,
    CompletedLine,
    DecisionLine,
    JsonLine,
    LabelledLine,
    Line,
    NamedLine,
    PatternLine,
    add_noise,
    read_lines,
)
from evaluation.report import Report, TaskResult, task_result
from evaluation.suite import (
    Bias,
    Choice,
    Classification,
    Decisions,
    Generation,
    LmEval,
    Refusal,
    Robustness,
    Suite,
    Task,
)
from service.common.aio import gather
from service.errors import ConfigurationError

_Answer = TypeVar("_Answer", str, Reading)
_FORMED: dict[str, type[AskedLine]] = {
    "json": JsonLine,
    "tool_calls": CallsLine,
    "regex": PatternLine,
}


class Watcher(Protocol):
    """Receives the progress of a run."""

    def begun(self, task: Task, requests: int) -> None:
        """Called before a task sends so many requests."""

    def answered(self, task: Task, line: int, answer: str | Reading) -> None:
        """Called after an answer to a request of a line, which is counted from 1."""

    def ended(self, result: TaskResult) -> None:
        """Called with the result of a task."""


class Run:
    """One run of a suite; `report` has the finished tasks, also after an interruption."""

    def __init__(
        self, suite: Suite, client: Client, watcher: Watcher, keep: Path | None = None
    ) -> None:
        """`keep` gets the files of other programs, in a folder for each task."""
        self._suite = suite
        self._keep = keep
        self._client = client
        self._watcher = watcher
        self._lines = {task.name: _lines(task) for task in suite.tasks}
        self._classified: dict[str, tuple[Classification, Chosen]] = {}
        self._done: list[TaskResult] = []
        self._began, self._clock = datetime.now(UTC), time.monotonic()
        self._model = suite.model or ""

    async def run(self, model: str | None) -> None:
        """Measure every task, and close the client.

        Raises ConfigurationError for a service that cannot be reached or that refuses a line.
        """
        async with self._client:
            self._model = await self._client.model(model or self._suite.model)
            self._labels = LabelReader(self._client, self._model)
            for task in self._suite.tasks:
                try:
                    result = await self._measured(task)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{task.name}: {error}") from error
                self._done.append(result)
                self._watcher.ended(result)

    @property
    def report(self) -> Report:
        """The finished tasks."""
        return Report(
            suite=self._suite.name,
            model=self._model,
            url=self._client.url,
            judge=self._suite.judge,
            began=self._began.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._clock, 1),
            complete=len(self._done) == len(self._suite.tasks),
            tasks=tuple(self._done),
        )

    async def _measured(self, task: Task) -> TaskResult:
        match task:
            case Classification():
                chosen = await self._chosen(task, task, str)
                self._classified[task.name] = task, chosen
                return task_result(task, classification_figures(chosen), chosen)
            case Choice():
                chosen = await self._choices(task)
                return task_result(task, choice_figures(chosen), chosen)
            case Decisions():
                chosen = await self._decided(task)
                return task_result(task, decision_figures(chosen), chosen)
            case Generation():
                lines, answers = await self._written(task)
                return task_result(task, answer_figures(task, lines, answers))
            case Refusal():
                _, answers = await self._written(task)
                return task_result(task, refusal_figures(task.patterns, answers))
            case Bias():
                return await self._biased(task)
            case Robustness():
                return await self._robust(task)
            case LmEval():
                return await self._by_lm_eval(task)

    async def _chosen(
        self, task: Task, asked: Classification, change: Callable[[str], str]
    ) -> Chosen:
        """Readings of a classification's lines after a change of each text."""
        lines: Sequence[LabelledLine] = self._lines[asked.name]
        question = _question(asked)
        readings = await self._all(
            task, [self._labels.read(change(line.text), question) for line in lines]
        )
        known = set(readings[0].probs)
        for number, line in enumerate(lines, 1):
            if line.label not in known:
                raise ConfigurationError(
                    f"line {number}: label {line.label!r:.80}: the model has no such label; "
                    f"its labels are {', '.join(sorted(known)):.400}"
                )
        return Chosen(readings, [line.label for line in lines])

    async def _choices(self, task: Choice) -> Chosen:
        lines: Sequence[ChoiceLine] = self._lines[task.name]
        asked = [Question(each.choices, task.instruction, task.template) for each in lines]
        pairs = zip(lines, asked, strict=True)
        readings = await self._all(task, [self._labels.read(a.question, b) for a, b in pairs])
        return Chosen(readings, [line.answer for line in lines])

    async def _decided(self, task: Decisions) -> Chosen:
        lines: Sequence[DecisionLine] = self._lines[task.name]
        asked = [read_decision(self._client, self._model, line) for line in lines]
        return Chosen(await self._all(task, asked), [str(line.answer) for line in lines])

    async def _written(self, task: Generation | Refusal) -> tuple[Sequence[AskedLine], list[str]]:
        lines: Sequence[AskedLine] = self._lines[task.name]
        longest = task.max_tokens
        asked = [generate_answer(self._client, self._model, line, longest) for line in lines]
        return lines, await self._all(task, asked)

    async def _biased(self, task: Bias) -> TaskResult:
        lines: Sequence[NamedLine] = self._lines[task.name]
        question = _question(task)
        names = [name for group in task.groups.values() for name in group]
        asked = [
            self._labels.read(line.text.replace("{name}", name), question)
            for line in lines
            for name in names
        ]
        readings = await self._all(task, asked, each=len(names))
        if task.label not in readings[0].probs:
            raise ConfigurationError(f"label: the model has no label {task.label!r:.80}")
        cut = len(next(iter(task.groups.values())))
        rows = [readings[at : at + len(names)] for at in range(0, len(readings), len(names))]
        first, second = [row[:cut] for row in rows], [row[cut:] for row in rows]
        return task_result(task, bias_figures(first, second, task.label))

    async def _robust(self, task: Robustness) -> TaskResult:
        asked, clean = self._classified[task.of]
        changed: dict[str, Chosen] = {
            noise: await self._chosen(task, asked, partial(add_noise, noise=noise))
            for noise in task.noise
        }
        return task_result(task, robustness_figures(clean, changed))

    async def _by_lm_eval(self, task: LmEval) -> TaskResult:
        keep = None if self._keep is None else self._keep / task.name
        figures = await lm_eval.run_task(task, self._client, self._model, keep)
        for name in task.bars:
            if name not in figures:
                known = ", ".join(figures)
                raise ConfigurationError(f"bars: no metric {name!r}; lm-eval gave {known}")
        return task_result(task, figures)

    async def _all(
        self, task: Task, requests: Sequence[Coroutine[Any, Any, _Answer]], each: int = 1
    ) -> list[_Answer]:
        """Every request's answer in order; `each` is the number of requests of a line."""
        self._watcher.begun(task, len(requests))

        async def watched(number: int, request: Coroutine[Any, Any, _Answer]) -> _Answer:
            line = number // each + 1
            try:
                answer = await request
            except Refused as error:
                raise ConfigurationError(f"line {line}: {error}") from error
            self._watcher.answered(task, line, answer)
            return answer

        return await gather(watched(*numbered) for numbered in enumerate(requests))


def _question(task: Classification | Bias) -> Question:
    return Question(task.labels, task.instruction, task.template)


def _lines(task: Task) -> Sequence[Any]:
    kinds: dict[type[Task], type[Line]] = {
        Classification: LabelledLine,
        Choice: ChoiceLine,
        Decisions: DecisionLine,
        Refusal: AskedLine,
        Bias: NamedLine,
    }
    match task:
        case Robustness():
            return ()
        case LmEval():
            lm_eval.check_task(task)
            return ()
        case Generation():
            return read_lines(task.lines, _FORMED.get(task.match, CompletedLine))
        case _:
            return read_lines(task.lines, kinds[type(task)])
