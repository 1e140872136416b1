"""Margins of the answers that pages state and tests expect: a nat or more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.adapters.decisions import DecisionsRecord
from service.adapters.manifest import GenerationManifest
from service.adapters.manifest_yaml import load_manifest
from service.classification.frame import LEAD as TEXT
from service.plugins.decisions.body import QUESTION
from service.plugins.decisions.wording import CUE, LEAD, TASK, wordings
from tests.engine.asked import CAPITAL, TOKYO
from tests.engine.conftest import ADAPTERS
from tests.engine.margins import LEAST, Reference, Step
from tests.engine.test_examples import BLOCKS, EXPECTED

EXAMPLES: list[dict[str, Any]] = [
    json.loads(found[1])
    for language, text in BLOCKS
    if any(part in text for part in EXPECTED)
    and (found := re.search(r"-d '(.*?)'$", text, re.DOTALL | re.MULTILINE))
    # test_classification checks the scores of candidate labels.
    and "candidate_labels" not in found[1]
]


@pytest.fixture(scope="module")
def base(smollm2_folder: Path) -> Reference:
    return Reference(smollm2_folder)


def steps_of(example: dict[str, Any], reference: Reference) -> list[Step]:
    """The answer to an example's body: its text, or the label of each of an adapter's inputs."""
    if "messages" in example:
        return reference.chat(example["messages"], tools=example.get("tools"))
    if not (ADAPTERS / example["model"]).is_dir():
        return reference.chat([{"role": "user", "content": example["input"]}])
    manifest = load_manifest(ADAPTERS / example["model"])
    if isinstance(manifest, GenerationManifest):
        return decided(example, manifest.decisions, reference)
    texts = [example["input"]] if isinstance(example["input"], str) else example["input"]
    words = list(manifest.classification.labels.values())
    return [reference.choose(manifest.prompt.render(text), words) for text in texts]


def decided(example: dict[str, Any], how: DecisionsRecord, reference: Reference) -> list[Step]:
    """The answers to an example's questions, for each way of asking them."""
    steps = []
    for question in map(QUESTION.validate_python, example["questions"]):
        for way in wordings(question, how.of(question.type)):
            asked = f"{TASK}\n{TEXT} {example['input']}{LEAD}{way.text}\n{CUE}"
            prompt = reference.rendered([{"role": "user", "content": asked}]) + CUE
            steps.append(reference.choose(prompt, [f" {word}" for word in way.words]))
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["model"])
def test_an_answer_of_a_page_leads_at_every_token(
    smollm2_folder: Path, base: Reference, example: dict[str, Any]
) -> None:
    adapter = ADAPTERS / example["model"]
    steps = steps_of(example, Reference(smollm2_folder, adapter) if adapter.is_dir() else base)
    assert min(step.least for step in steps) >= LEAST, steps


def test_the_question_of_the_tests_leads_at_every_token(base: Reference) -> None:
    steps = base.chat(CAPITAL)
    assert "".join(step.token for step in steps[:-1]) == TOKYO
    assert min(step.least for step in steps) >= LEAST, steps


def test_every_model_of_the_pages_is_measured() -> None:
    asked = {example["model"] for example in EXAMPLES}
    assert asked == {"smollm2-135m-instruct", *(each.name for each in ADAPTERS.iterdir())}
