"""Suite files: what is refused, by which name, and the suites of this repository."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from evaluation.client import Client
from evaluation.run import Run
from evaluation.suite import load_suite
from service.common.plain_yaml import read_mapping
from service.errors import ConfigurationError
from tests.evaluation.suites import CLASSIFICATION, write_suite

SUITES = sorted(Path("deploy/local/suites").glob("*.yaml"))
SCHEMA = json.loads(Path("docs/schemas/suite.schema.json").read_text(encoding="utf-8"))
LINES = {"lines": "films.jsonl", "licence": "MIT"}
BIAS = LINES | {"name": "names", "kind": "bias", "label": "good"}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (CLASSIFICATION | {"kind": "regression"}, "'classification', 'choice'"),
        (CLASSIFICATION | {"bar": {}}, "unknown key; did you mean 'bars'?"),
        (CLASSIFICATION | {"bars": {"acuracy": ">= 0.9"}}, "no metric 'acuracy'; there are accura"),
        (CLASSIFICATION | {"bars": {"accuracy": "> 0.9"}}, "bars.accuracy: must match pattern"),
        (CLASSIFICATION | {"labels": ["one"]}, "labels: "),
        (CLASSIFICATION | {"template": "no place"}, "template: needs {input} exactly once"),
        (CLASSIFICATION | {"instruction": "Judge."}, "instruction: not beside a template"),
        (
            {"name": "r", "kind": "robustness", "of": "films", "noise": ["case"]},
            "r: of: must name an earlier classification, got 'films'",
        ),
        (
            LINES | {"name": "r", "kind": "refusal", "patterns": ["("]},
            "is not a regular expression",
        ),
        (BIAS | {"groups": {"one": ["Ann"]}}, "groups: needs two groups, got 1"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, task: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_suite(write_suite(tmp_path, task))
    assert message in str(caught.value)


def test_a_name_stands_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the name 'films' is given twice"):
        load_suite(write_suite(tmp_path, CLASSIFICATION, CLASSIFICATION))


def test_a_pattern_has_no_text_to_compare_words_with(tmp_path: Path) -> None:
    task = LINES | {"name": "codes", "kind": "generation", "match": "regex"}
    with pytest.raises(ConfigurationError, match="no metric 'chrf'; there are match"):
        load_suite(write_suite(tmp_path, task | {"bars": {"chrf": ">= 50"}}))


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_a_suite_of_the_repository_is_small_and_fits_the_schema(file: Path) -> None:
    jsonschema.validate(read_mapping(file), SCHEMA)
    suite = load_suite(file)
    Run(suite, Client("http://unused", None, 1), None)  # type: ignore[arg-type]
    counts = [
        len(task.lines.read_bytes().splitlines()) for task in suite.tasks if hasattr(task, "lines")
    ]
    assert max(counts) <= 200
    assert any(task.bars for task in suite.tasks)


def test_the_base_and_every_demo_adapter_have_a_suite() -> None:
    adapters = {folder.name for folder in Path("deploy/local/adapters").iterdir()}
    assert {file.stem for file in SUITES} == adapters | {"base", "biased"}
