"""`llm-service evaluate` with a suite: exit codes, messages, reports."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from evaluation.report import Report
from evaluation.suite import Classification
from loadtests.processes import PATIENCE_S, wait_until
from service.cli.main import app
from service.settings.tree import TenantSettings
from tests.evaluation.scripted import scripted
from tests.evaluation.suites import CLASSIFICATION, FILMS, write_suite
from tests.live_service import MODEL, LiveService
from tools.keys import entry, key_of, write_keys

GENERATION = {
    "name": "answers",
    "kind": "generation",
    "lines": "films.jsonl",
    "licence": "Apache-2.0",
}
PROMPTS = [{"prompt": f"say {number}", "completion": str(number)} for number in range(4)]


def call(*arguments: object) -> Result:
    given = ["evaluate", *(str(each) for each in arguments)]
    return CliRunner().invoke(app, given, env={"COLUMNS": "250"})


def read(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def test_bars_decide_the_exit_code_and_the_report_needs_no_network(tmp_path: Path) -> None:
    keys, key = write_keys(tmp_path / "keys.yaml", entry("one")), tmp_path / "key"
    key.write_text(key_of("one") + "\n")
    noise = {"name": "loud", "kind": "robustness", "of": "films", "noise": ["case"]}
    with LiveService(tenants=TenantSettings(keys=keys)) as live:
        at = ("--url", live.url, "--model", MODEL, "--key-file", key)
        files = ("--report", tmp_path / "report")
        stands = write_suite(tmp_path, CLASSIFICATION | {"bars": {"accuracy": ">= 0"}}, noise)
        done = call(stands, *at, *files)
        assert done.exit_code == 0, done.output
        assert "loud: measured" in done.stderr
        assert "case_loss" in done.stdout
        assert "HTTP" not in done.stderr
        fails = write_suite(tmp_path, CLASSIFICATION | {"bars": {"brier": "<= -1"}})
        failed = call(fails, *at, "--json")
        assert failed.exit_code == 1
        assert json.loads(failed.stdout)["tasks"][0]["metrics"][3]["verdict"] == "fails"
        assert "fails: films: brier is" in call(fails, *at).stderr
        missing = call(stands, "--url", live.url, "--model", MODEL)
        assert missing.exit_code == 2
        assert "401: " in missing.stderr

    report = read(tmp_path / "report")
    assert report.complete
    assert [task.name for task in report.tasks] == ["films", "loud"]
    assert report.tasks[0].risk[-1].coverage == 1
    page = (tmp_path / "report/report.html").read_text()
    assert page.count("<svg") == 2
    assert re.findall(r"(?:src|href|url)\s*[=(]|<script|@import", page) == []
    answers = (tmp_path / "report/answers.jsonl").read_text().splitlines()
    assert Counter(json.loads(each)["task"] for each in answers) == {"films": 3, "loud": 3}


def test_junit_has_a_case_for_each_bar(tmp_path: Path) -> None:
    junit = tmp_path / "made/junit.xml"
    bars = {"accuracy": ">= 0", "brier": "<= -1"}
    with LiveService() as live:
        suite = write_suite(tmp_path, CLASSIFICATION | {"bars": bars})
        at = (suite, "--url", live.url, "--junit")
        assert call(*at, junit, "--model", MODEL).exit_code == 1
        assert "cannot be written" in call(*at, tmp_path, "--model", MODEL).stderr
        (films,) = ElementTree.parse(junit).getroot()
        assert films.attrib == {"name": "films", "tests": "2", "failures": "1", "errors": "0"}
        met, missed = films.iter("testcase")
        assert (met.get("name"), list(met)) == ("accuracy >= 0", [])
        failure = missed.find("failure")
        assert failure is not None
        assert failure.attrib["message"].startswith("brier is ")
        figures = {each.get("name") for each in films.iter("property")}
        assert figures == set(Classification.metrics)

        assert call(*at, junit, "--model", "mine").exit_code == 2
    (run,) = ElementTree.parse(junit).getroot()
    assert [each.tag for each in run.iter()] == ["testsuite", "testcase", "error"]


def test_the_address_may_be_that_of_openais_clients(tmp_path: Path) -> None:
    with LiveService() as live:
        done = call(write_suite(tmp_path), "--url", f"{live.url}/v1/", "--model", MODEL)
    assert done.exit_code == 0, done.output


def test_a_judge_of_intervals_takes_no_undecided_bar(tmp_path: Path) -> None:
    with LiveService() as live:
        task = CLASSIFICATION | {"bars": {"abstention": "<= 0.1"}}
        by_value = call(write_suite(tmp_path, task), "--url", live.url, "--model", MODEL)
        assert by_value.exit_code == 0, by_value.output
        assert "undecided" in by_value.stdout
        by_interval = call(
            write_suite(tmp_path, task, judge="interval"), "--url", live.url, "--model", MODEL
        )
        assert by_interval.exit_code == 1


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (CLASSIFICATION | {"labels": ["good", "fine"]}, "films: line 2: label 'bad': the model"),
        (CLASSIFICATION | {"labels": ["good"] * 2}, "films: line 1: 400: candidate_labels"),
    ],
)
def test_lines_that_the_service_refuses(tmp_path: Path, task: dict[str, Any], message: str) -> None:
    with LiveService() as live:
        result = call(write_suite(tmp_path, task), "--url", live.url, "--model", MODEL)
    assert result.exit_code == 2
    assert message in result.stderr


def test_files_and_services_that_cannot_be_used(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    for arguments, message in (
        ((suite, "--url", "http://127.0.0.1:1"), "http://127.0.0.1:1: cannot be reached"),
        ((suite, "--url", "nowhere"), "cannot be reached"),
        ((suite,), "a suite needs --url"),
        ((suite, "--model", "x"), "only with --url"),
        ((tmp_path / "none.yaml", "--url", "http://127.0.0.1:1"), "pass the YAML file of a suite"),
        ((suite, "--url", "http://127.0.0.1:1", "--key-file", tmp_path / "k"), "the key cannot"),
        ((suite, "--url", "http://127.0.0.1:1", "--report", suite), "cannot be written"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert "Traceback" not in result.output


def test_an_unknown_model_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with scripted(echo) as url:
        result = call(write_suite(tmp_path), "--url", url, "--model", "mine")
    assert result.exit_code == 2
    assert "no model 'mine'; the service has other" in result.stderr
    with LiveService() as live:
        result = call(write_suite(tmp_path), "--url", live.url, "--model", "mine")
    assert result.exit_code == 2
    assert f"no model 'mine'; the service has {MODEL}" in result.stderr


def test_a_service_without_a_list_refuses_an_unknown_model_itself(tmp_path: Path) -> None:
    def unknown(path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        named = f"model: {body['model']!r} is not served"
        return 404, {}, {"error": {"message": named, "code": "model_not_found"}}

    with scripted(unknown, lists_models=False) as url:
        unlisted = call(write_suite(tmp_path), "--url", url, "--model", "mine")
    assert unlisted.exit_code == 2
    assert re.search(r"films: line \d: 404: ", unlisted.stderr)  # whichever was answered first
    assert "mine" in unlisted.stderr


def test_a_refusal_that_passes_is_waited_for(tmp_path: Path) -> None:
    times: list[float] = []

    def answer(path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        times.append(time.monotonic())
        if len(times) < 3:
            return (429, 503)[len(times) - 1], {"retry-after": "0.3"}, {}
        return 200, {}, {"choices": [{"text": body["prompt"].split()[1]}]}

    with scripted(answer) as url:
        suite = write_suite(tmp_path, GENERATION | {"bars": {"match": ">= 1"}}, lines=PROMPTS)
        result = call(suite, "--url", url, "--concurrency", 1)
    assert result.exit_code == 0, result.output
    assert len(times) == len(PROMPTS) + 2
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(times[:3]))


def echo(path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """Words as tokens; a label of length n has the log-probability -n."""
    if path != "/v1/completions":
        return 404, {}, {"error": {"message": "no route"}}
    tokens = re.findall(r"\s*\S+", body["prompt"])
    logs = [None, *(-float(len(token)) for token in tokens[1:])]
    found = {"tokens": [*tokens, " more"], "token_logprobs": [*logs, -1.0]}
    return 200, {}, {"choices": [{"logprobs": found}], "usage": {"prompt_tokens": len(tokens)}}


def test_another_service_is_read_by_completions(tmp_path: Path) -> None:
    with scripted(echo) as url:
        suite = write_suite(tmp_path, judge="interval")
        result = call(suite, "--url", url, "--report", tmp_path / "report")
        assert result.exit_code == 0, result.output
        asked = {key: value for key, value in CLASSIFICATION.items() if key != "template"}
        refused = call(write_suite(tmp_path, asked), "--url", url)
    assert refused.exit_code == 2
    assert "films: the service has no /v1/classify: label probabilities need" in refused.stderr
    first = json.loads((tmp_path / "report/answers.jsonl").read_text().splitlines()[0])
    assert first["probs"]["good"] == pytest.approx(1 / (1 + math.e))
    assert sum(first["probs"].values()) == pytest.approx(1)


@pytest.fixture
def _interrupts_count() -> Iterator[None]:
    """Have a program that the test starts take interrupts, even where nohup ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts_count")
def test_an_interruption_leaves_the_tasks_that_were_done(tmp_path: Path) -> None:
    def answer(path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        asked[body["prompt"]] += 1
        if asked["say 3"] == 2:
            stopped.wait(PATIENCE_S)
        return 200, {}, {"choices": [{"text": "1"}]}

    asked, stopped = Counter[str](), threading.Event()
    folder, later = tmp_path / "report", GENERATION | {"name": "later"}
    with scripted(answer) as url:
        suite = write_suite(tmp_path, GENERATION, later, lines=PROMPTS)
        command = [sys.executable, "-m", "service.cli.main", "evaluate", str(suite)]
        options = ["--url", url, "--report", str(folder), "--concurrency", "1"]
        process = subprocess.Popen(
            [*command, *options], env=os.environ | {"NO_COLOR": "1"}, stderr=subprocess.PIPE
        )
        wait_until(
            lambda: _lines(folder) >= len(PROMPTS) + 3, PATIENCE_S, "the second task's answers"
        )
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        stopped.set()
    assert process.returncode == 130, errors
    assert b"interrupted: not every task was measured" in errors
    report = read(folder)
    assert not report.complete
    assert [task.name for task in report.tasks] == ["answers"]
    assert "Interrupted" in (folder / "report.html").read_text()
    assert _lines(folder) == len(PROMPTS) + 3


def _lines(folder: Path) -> int:
    file = folder / "answers.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_report_escapes_what_a_service_says(tmp_path: Path) -> None:
    with LiveService() as live:
        task = CLASSIFICATION | {"about": "<script>alert(1)</script>"}
        files = ("--report", tmp_path / "report")
        assert (
            call(write_suite(tmp_path, task), "--url", live.url, "--model", MODEL, *files).exit_code
            == 0
        )
    assert "<script" not in (tmp_path / "report/report.html").read_text()
    assert len(FILMS) == len((tmp_path / "report/answers.jsonl").read_text().splitlines())
