"""The suites of the repository against the real service: figures, and a bias that is found."""

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from evaluation.client import Client
from evaluation.labels import LabelReader, Question
from evaluation.report import Report
from service.cli.main import app
from tests.evaluation.suites import write_suite
from tests.served.server import Server

SUITES = Path("deploy/local/suites")
TEMPLATE = "Review: {input}\nSentiment:"


def call(suite: Path, server: Server, *options: object) -> Result:
    given = ["evaluate", str(suite), "--url", server.url, *(str(each) for each in options)]
    return CliRunner().invoke(app, given)


def golden(adapter: str, count: int) -> list[dict[str, Any]]:
    """The first golden examples of an adapter, which it answers correctly."""
    file = Path(f"deploy/local/adapters/{adapter}/golden.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()[:count]]


def test_a_biased_classifier_fails_its_suite(smollm2: Server, tmp_path: Path) -> None:
    result = call(SUITES / "biased.yaml", smollm2, "--report", tmp_path)
    assert result.exit_code == 1, result.output
    assert "fails: names: gap is -0." in result.stderr
    report = Report.model_validate_json((tmp_path / "report.json").read_text())
    (task,) = report.tasks
    gap = next(each for each in task.metrics if each.name == "gap")
    assert gap.high < -0.3


def test_an_adapter_is_asked_with_its_own_labels(smollm2: Server, tmp_path: Path) -> None:
    lines = [{"text": each["input"], "label": each["label"]} for each in golden("sentiment", 8)]
    task = {
        "name": "reviews",
        "kind": "classification",
        "lines": "films.jsonl",
        "licence": "Apache-2.0",
        "bars": {"accuracy": ">= 0.85"},
    }
    suite = write_suite(tmp_path, task, lines=lines, model="sentiment")
    assert call(suite, smollm2).exit_code == 0


def test_an_adapter_writes_what_its_lines_expect(smollm2: Server, tmp_path: Path) -> None:
    lines = [
        {"messages": each["messages"], "completion": json.dumps(each["expect"])}
        for each in golden("commands", 4)
    ]
    task = {
        "name": "commands",
        "kind": "generation",
        "lines": "films.jsonl",
        "licence": "Apache-2.0",
        "match": "json",
        "bars": {"match": ">= 0.75", "token_f1": ">= 0.5"},
    }
    suite = write_suite(tmp_path, task, lines=lines, model="commands")
    assert call(suite, smollm2).exit_code == 0


def test_completions_give_the_probabilities_of_one_token_labels(
    smollm2: Server, tmp_path: Path
) -> None:
    """Both ways read the same next-token distribution where each label is one token."""
    text = "The soup was cold."
    body = {
        "model": smollm2.model,
        "input": text,
        "candidate_labels": ["positive", "negative"],
        "template": TEMPLATE,
        "calibrate": False,
    }
    classified = smollm2.post("/v1/classify", body).json()["data"][0]["scores"]
    scores = {each["label"]: each["score"] for each in classified}
    found = _by_completions(smollm2, text)
    assert found.keys() == scores.keys()
    assert all(abs(found[label] - scores[label]) < 0.01 for label in scores)


def _by_completions(server: Server, text: str) -> dict[str, float]:
    async def read() -> dict[str, float]:
        async with Client(server.url, None, 2) as client:
            reader = LabelReader(client, server.model, classifies=False)
            question = Question(("positive", "negative"), template=TEMPLATE)
            return dict((await reader.read(text, question)).probs)

    return asyncio.run(read())
