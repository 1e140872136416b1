"""Tasks of lm-eval: what its program is given, and what is read from its results.

A script stands for the program, which `make clients` runs.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evaluation.lm_eval import read_figures
from evaluation.report import Report
from evaluation.suite import load_suite
from service.cli.main import app
from service.errors import ConfigurationError
from tests.evaluation.scripted import scripted
from tests.evaluation.suites import write_suite

TASK: dict[str, Any] = {
    "name": "facts",
    "kind": "lm-eval",
    "task": "own_facts",
    "include": "tasks",
    "licence": "MIT",
}
RESULTS: dict[str, Any] = {
    "results": {
        "own_facts": {
            "name": "own_facts",
            "alias": "own_facts",
            "sample_len": 4,
            "acc,none": 0.75,
            "acc_stderr,none": 0.25,
            "exact_match,strict-match": 1.0,
            "exact_match_stderr,strict-match": 0.0,
            "bleu,none": 31.5,
            "bleu_stderr,none": 2.0,
            "own,none": 0.5,
            "own_stderr,none": "N/A",
        },
        "group": {"name": "group", "alias": "group", "sample_len": 4},
    },
    "group_subtasks": {},
    "n-samples": {"own_facts": {"original": 9, "effective": 4}},
    "lm_eval_version": "0.4.13",
}
"""The shape that lm-eval 0.4.13 writes."""
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
given = json.loads(pathlib.Path(sys.argv[3]).read_text())
key = os.environ.get("OPENAI_API_KEY")
told = {{"arguments": sys.argv[1:], "config": given, "key": key, "folder": os.getcwd()}}
(here / "told.json").write_text(json.dumps(told))
if (here / "fails").exists():
    sys.exit("much before\\nKeyError: 'own_facts'")
written = pathlib.Path(given["output_path"], "other")
written.mkdir(parents=True)
(written / "results_2026-11-27.json").write_text((here / "results.json").read_text())
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the script; what it was given is in `told.json`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "lm_eval").write_text(PROGRAM)
    (folder / "lm_eval").chmod(0o755)
    (tmp_path / "tasks").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("OPENAI_API_KEY", "of another service")
    return folder


def evaluate(tmp_path: Path, *options: object, **task: Any) -> Result:
    with scripted(lambda path, body: (404, {}, {})) as url:
        suite = write_suite(tmp_path, TASK | task)
        given = ["evaluate", suite, "--url", url, *options]
        return CliRunner().invoke(app, [str(each) for each in given], env={"COLUMNS": "250"})


def test_the_program_is_given_the_service_and_the_key_by_the_environment(
    tmp_path: Path, program: Path
) -> None:
    (tmp_path / "key").write_text("sk-secret\n")
    files = ("--report", tmp_path / "report", "--key-file", tmp_path / "key", "--concurrency", 3)
    (tmp_path / "words").mkdir()
    done = evaluate(tmp_path, *files, tokenizer="words", shots=2, limit=7)
    assert done.exit_code == 0, done.output
    told = json.loads((program / "told.json").read_text())
    assert (told["arguments"][:2], len(told["arguments"])) == (["run", "--config"], 3)
    assert told["key"] == "sk-secret"
    assert told["folder"] == str(tmp_path / "tasks")
    config = told["config"]
    assert config["model"] == "local-completions"
    of_model = config["model_args"]
    assert of_model["base_url"].startswith("http://127.0.0.1:")
    assert of_model["base_url"].endswith("/v1/completions")
    assert (of_model["model"], of_model["num_concurrent"]) == ("other", 3)
    assert of_model["tokenizer"] == str(tmp_path / "words")
    assert (config["tasks"], config["include_path"]) == (["own_facts"], told["folder"])
    assert (config["num_fewshot"], config["limit"]) == (2, 7)
    assert config["apply_chat_template"] is False
    kept = list((tmp_path / "report").rglob("results_*.json"))
    assert kept == [tmp_path / "report/lm-eval/facts/other/results_2026-11-27.json"]
    texts = [file.read_text() for file in tmp_path.glob("report/**/*") if file.is_file()]
    assert not any("sk-secret" in text for text in [*texts, done.output, json.dumps(config)])


def test_a_chat_gets_a_template_and_no_key_of_another_service(
    tmp_path: Path, program: Path
) -> None:
    assert evaluate(tmp_path, api="chat").exit_code == 0
    told = json.loads((program / "told.json").read_text())
    assert told["config"]["model"] == "local-chat-completions"
    assert told["config"]["model_args"]["base_url"].endswith("/v1/chat/completions")
    assert told["config"]["apply_chat_template"] is True
    assert told["key"] is None


def test_bars_judge_its_metrics_and_the_report_reads_back(tmp_path: Path, program: Path) -> None:
    bars = {"acc": ">= 0.7", "own": ">= 0.4", "exact_match,strict-match": "<= 0.5"}
    done = evaluate(tmp_path, "--report", tmp_path / "report", bars=bars)
    assert done.exit_code == 1
    assert "fails: facts: exact_match,strict-match is 1 " in done.stderr
    report = Report.model_validate_json((tmp_path / "report/report.json").read_text())
    (task,) = report.tasks
    found = {metric.name: metric for metric in task.metrics}
    assert list(found) == ["acc", "exact_match,strict-match", "bleu", "own"]
    assert {metric.lines for metric in task.metrics} == {4}
    assert (found["acc"].method, found["acc"].verdict) == ("Wilson", "undecided")
    assert found["acc"].high < 1
    assert found["exact_match,strict-match"].low < 1
    assert found["bleu"].low == pytest.approx(31.5 - 1.96 * 2, abs=1e-3)
    assert (found["own"].low, found["own"].high) == (-math.inf, math.inf)
    assert found["own"].verdict == "undecided"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"bars": {"f1": ">= 0"}}, "facts: bars: no metric 'f1'; lm-eval gave acc, exact_match,"),
        ({"task": "other"}, "facts: lm-eval left no results of 'other'"),
        ({"task": "group"}, "facts: lm-eval gave 'group' no metrics: a group needs"),
        ({"task": "a,b"}, "task: must match pattern"),
        ({"api": "messages"}, "api: must be 'completions' or 'chat'"),
        ({"include": "none"}, "facts: include: no such folder: "),
    ],
)
def test_what_cannot_be_judged_is_named(
    tmp_path: Path, program: Path, task: dict[str, Any], message: str
) -> None:
    done = evaluate(tmp_path, **task)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_program_that_fails_is_quoted(tmp_path: Path, program: Path) -> None:
    (program / "fails").touch()
    done = evaluate(tmp_path)
    assert done.exit_code == 2
    assert done.stderr.strip() == "error: facts: lm-eval ended with 1: KeyError: 'own_facts'"


def test_a_missing_program_is_named_before_any_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    suite = write_suite(tmp_path, TASK)
    done = CliRunner().invoke(app, ["evaluate", str(suite), "--url", "http://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "the program lm_eval is missing: install lm-eval[api] here" in done.stderr


def test_a_name_of_a_tokenizer_stays_a_name(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, TASK | {"tokenizer": "gpt2"}))
    assert suite.tasks[0].model_dump()["tokenizer"] == "gpt2"


def test_a_group_counts_the_lines_of_its_tasks(tmp_path: Path) -> None:
    counts = {"one": {"effective": 3}, "two": {"effective": 4}}
    found = {
        "results": {"both": {"acc,none": 0.5, "acc_stderr,none": 0.1}},
        "group_subtasks": {"both": ["one", "two"]},
        "n-samples": counts,
    }
    (tmp_path / "results_1.json").write_text(json.dumps(found))
    assert read_figures(tmp_path, "both")["acc"].lines == 7


@pytest.mark.parametrize("text", ["", "[]", '{"results": {}}', '{"results": {"a": {}}}'])
def test_results_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "results_1.json").write_text(text)
    with pytest.raises(ConfigurationError, match="left no results of 'a'"):
        read_figures(tmp_path, "a")
