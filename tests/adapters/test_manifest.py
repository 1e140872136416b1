import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import (
    ClassificationManifest,
    GenerationManifest,
    PromptTemplate,
)
from service.adapters.manifest_yaml import (
    build_manifest,
    dump_manifest,
    load_manifest,
    parse_manifest,
)
from tests.adapters.samples import AdapterFolder

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "schemas" / "adapter.schema.json"
DIGEST = "sha256:" + "a" * 64
# Everything a manifest can say.
FULL = f"""
schema: 1
name: sentiment
version: 1.2.0-rc.1+build.5
base_model: {{name: smollm2-135m-instruct, digest: "{DIGEST}"}}
task: classification            # or generation
files:
  adapter_model.safetensors: {DIGEST}
  adapter_config.json: {DIGEST}
  golden.jsonl: {DIGEST}
prompt: {{template: "Review: {{input}}\\nSentiment:"}}
classification:
  labels: {{positive: " positive", negative: " negative"}}
  multi_label: false
  calibration:
    temperature: 1.31
    prior: [0.4, 0.6]
    conformal: {{coverage: 0.9, threshold: 0.23}}
golden: {{file: golden.jsonl, min_accuracy: 0.9}}
evaluation: {{dataset: reviews, accuracy: 0.91, ece: 2e-2, date: 2026-01-31}}
"""


def full(**changes: object) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(FULL.replace("2e-2, date: 2026-01-31", "0.02"))
    return document | changes


def digest_of(text: str) -> str:
    return parse_manifest(text.encode(), source="x").digest


def test_everything_a_manifest_can_say_is_read() -> None:
    manifest = parse_manifest(FULL.encode(), source="x")

    assert isinstance(manifest, ClassificationManifest)
    assert manifest.classification.calibration.prior == (0.4, 0.6)
    assert manifest.classification.calibration.conformal is not None
    assert manifest.classification.calibration.conformal.threshold == 0.23
    assert manifest.golden is not None
    assert manifest.golden.min_accuracy == 0.9
    assert manifest.evaluation == {
        "dataset": "reviews",
        "accuracy": 0.91,
        "ece": 0.02,
        "date": "2026-01-31",
    }


@pytest.mark.parametrize(
    ("multi_label", "threshold", "fits"),
    [
        (True, [0.2, 0.3], True),
        (True, [0.2], False),
        (True, 0.2, False),
        (False, [0.2, 0.3], False),
        (False, 0.2, True),
    ],
)
def test_conformal_thresholds_fit_the_labels(
    multi_label: bool, threshold: object, fits: bool
) -> None:
    document = full()
    conformal = {"coverage": 0.9, "threshold": threshold}
    document["classification"] |= {
        "multi_label": multi_label, "calibration": {"conformal": conformal}
    }  # fmt: skip
    if fits:
        manifest = build_manifest(document, source="x")
        assert parse_manifest(dump_manifest(manifest).encode(), source="x") == manifest
    else:
        with pytest.raises(AdapterRefused, match=r"field classification: .*calibration\.conformal"):
            build_manifest(document, source="x")


def test_a_generation_manifest_needs_no_prompt() -> None:
    document = full(task="generation", golden={"file": "golden.jsonl", "match": "json"})
    del document["classification"], document["prompt"]
    manifest = build_manifest(document, source="x")

    assert isinstance(manifest, GenerationManifest)
    assert manifest.golden is not None
    assert (manifest.golden.match, manifest.golden.min_accuracy) == ("json", 1.0)


def test_a_generation_manifest_may_say_how_to_sample() -> None:
    """The digest of one that does not stays what it was before there was such a key."""
    document = full(task="generation", golden={"file": "golden.jsonl", "match": "json"})
    del document["classification"], document["prompt"]
    plain = build_manifest(document, source="x")
    sampled = build_manifest(document | {"sampling": {"temperature": 0.2}}, source="x")
    assert isinstance(sampled, GenerationManifest)
    assert sampled.sampling.temperature == 0.2
    assert sampled.digest != plain.digest
    assert build_manifest(document | {"sampling": {}}, source="x").digest == plain.digest
    with pytest.raises(AdapterRefused, match=r"sampling\.top_p"):
        build_manifest(document | {"sampling": {"top_p": 2.0}}, source="x")


@pytest.mark.parametrize("match", [None, "fuzzy"])
def test_a_generation_golden_needs_a_known_match(match: str | None) -> None:
    golden = {"file": "golden.jsonl"} | ({"match": match} if match else {})
    document = full(task="generation", golden=golden)
    del document["classification"]

    with pytest.raises(AdapterRefused, match=r"field golden\.match"):
        build_manifest(document, source="x")


def test_written_and_read_again_it_is_equal() -> None:
    manifest = parse_manifest(FULL.encode(), source="x")
    again = parse_manifest(dump_manifest(manifest).encode(), source="x")

    assert again == manifest
    assert again.digest == manifest.digest


def test_the_digest_survives_comments_layout_and_written_defaults() -> None:
    rewritten = yaml.safe_dump(full(), indent=8, sort_keys=False)
    without = FULL.replace("  multi_label: false\n", "").replace("2e-2, date: 2026-01-31", "0.02")

    assert digest_of(rewritten) == digest_of(without) == digest_of("# a comment\n" + without)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.2.0", "1.2.1"),
        ("Sentiment:", "Mood:"),
        (' positive"', ' good"'),
        ("temperature: 1.31", "temperature: 1.32"),
        ("accuracy: 0.91", "accuracy: 0.92"),
        (f"golden.jsonl: {DIGEST}", "golden.jsonl: sha256:" + "b" * 64),
    ],
)
def test_the_digest_moves_with_the_meaning(old: str, new: str) -> None:
    assert old in FULL
    assert digest_of(FULL.replace(old, new)) != digest_of(FULL)


def test_the_digest_moves_with_the_order_of_labels_because_the_prior_follows_it() -> None:
    swapped = FULL.replace(
        'positive: " positive", negative: " negative"',
        'negative: " negative", positive: " positive"',
    )

    assert digest_of(swapped) != digest_of(FULL)


@pytest.mark.parametrize("name", ["no", "yes", "on", "2026-01-31", "0x1f", "1:30"])
def test_labels_that_yaml_1_1_would_not_read_as_text(name: str) -> None:
    text = FULL.replace("positive: ", f"{name}: ")
    manifest = parse_manifest(text.encode(), source="x")

    assert isinstance(manifest, ClassificationManifest)
    assert list(manifest.classification.labels) == [name, "negative"]
    assert parse_manifest(dump_manifest(manifest).encode(), source="x") == manifest


@pytest.mark.parametrize("name", ["1", "1e5", "true", "null", "010"])
def test_a_label_that_is_no_text_must_be_quoted_and_is_when_written(name: str) -> None:
    with pytest.raises(AdapterRefused, match="quote it"):
        parse_manifest(FULL.replace("positive: ", f"{name}: ").encode(), source="x")
    manifest = parse_manifest(FULL.replace("positive: ", f'"{name}": ').encode(), source="x")

    assert parse_manifest(dump_manifest(manifest).encode(), source="x") == manifest


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "01.2.0", "1.2.0-", "1.2.0 ", "1.2.0\n"])
def test_versions_are_semantic(version: str) -> None:
    with pytest.raises(AdapterRefused, match="field version"):
        build_manifest(full(version=version), source="x")


@pytest.mark.parametrize("name", ["a@1", "a/b", "../a", "A", "", ".a", "a" * 65, "a\n"])
def test_names_cannot_be_mistaken_for_paths_or_versions(name: str) -> None:
    with pytest.raises(AdapterRefused, match="field name"):
        build_manifest(full(name=name), source="x")


def test_only_the_input_is_replaced_in_a_template() -> None:
    prompt = PromptTemplate(template='{"a": {x}} {input} {}')

    assert prompt.render("{input} $1 \\1") == '{"a": {x}} {input} $1 \\1 {}'


def test_the_message_counts_what_else_is_wrong() -> None:
    with pytest.raises(AdapterRefused, match=r"\(and 1 more\)"):
        build_manifest(full(version="x", name="X"), source="x")


@pytest.mark.parametrize("value", [float("nan"), {"a": {1}}, b"x"])
def test_values_json_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(AdapterRefused, match="JSON cannot hold"):
        build_manifest(full(evaluation={"a": value}), source="x")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_end_in_another_exception(raw: bytes) -> None:
    with pytest.raises(AdapterRefused):
        parse_manifest(raw, source="x")


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_edit_of_a_good_manifest_ends_in_another_exception(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(start + 20, len(FULL))))
    raw = (FULL[:start] + data.draw(st.text(max_size=10)) + FULL[end:]).encode(errors="replace")
    try:
        manifest = parse_manifest(raw, source="x")
    except AdapterRefused:
        return
    assert parse_manifest(dump_manifest(manifest).encode(), source="x") == manifest


def test_the_published_schema_accepts_and_refuses(adapter: AdapterFolder) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    load_manifest(adapter.save().path)

    assert validator.is_valid(adapter.manifest)
    assert not validator.is_valid(adapter.manifest | {"clasification": 1})
    assert not validator.is_valid(adapter.manifest | {"version": "1.2"})
    assert not validator.is_valid(adapter.manifest | {"task": "generation"})
