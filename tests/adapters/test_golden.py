import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters import formats as pattern
from service.adapters.formats import AdapterRefused, PatternRefused
from service.adapters.golden import (
    ClassificationExample,
    GenerationExample,
    load_classification_golden,
    load_generation_golden,
    requests_to_try,
)
from service.adapters.golden_score import (
    score_classification,
    score_generation,
    token_f1,
)
from service.adapters.manifest import (
    ClassificationManifest,
    GenerationGolden,
    GenerationManifest,
)
from service.adapters.manifest_yaml import load_manifest
from tests.adapters.samples import AdapterFolder

SLOW, ANSWER = "(.|..|...|\\w)+[0-9]", "a" * 60 + "!"
Match = Literal["exact", "regex", "json", "tool_calls", "token", "words"]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def golden(match: Match, **options: Any) -> GenerationGolden:
    return GenerationGolden(file="golden.jsonl", match=match, **options)


def generation(
    adapter: AdapterFolder, match: Match, *examples: object, prompt: bool = True
) -> GenerationManifest:
    adapter.manifest |= {"task": "generation", "golden": {"file": "golden.jsonl", "match": match}}
    del adapter.manifest["classification"]
    if not prompt:
        del adapter.manifest["prompt"]
    adapter.golden = list(examples)  # type: ignore[arg-type]
    manifest = load_manifest(adapter.save().path)
    assert isinstance(manifest, GenerationManifest)
    return manifest


def classification(adapter: AdapterFolder) -> ClassificationManifest:
    manifest = load_manifest(adapter.save().path)
    assert isinstance(manifest, ClassificationManifest)
    return manifest


def test_classification_examples_are_read(adapter: AdapterFolder) -> None:
    examples = load_classification_golden(adapter.path, classification(adapter))

    assert [(example.input, example.expected) for example in examples] == [
        ("good", frozenset({"positive"})),
        ("bad", frozenset({"negative"})),
    ]


def test_multi_label_examples_name_sets_and_may_name_none(adapter: AdapterFolder) -> None:
    adapter.manifest["classification"]["multi_label"] = True
    adapter.golden = [
        {"input": "mixed", "labels": ["positive", "negative"]},  # type: ignore[dict-item]
        {"input": "neither", "labels": []},  # type: ignore[dict-item]
    ]
    examples = load_classification_golden(adapter.path, classification(adapter))

    assert [example.expected for example in examples] == [{"positive", "negative"}, frozenset()]


def test_an_adapter_without_golden_examples_has_none(adapter: AdapterFolder) -> None:
    del adapter.manifest["golden"]

    assert load_classification_golden(adapter.path, classification(adapter)) == ()


def test_generation_examples_are_read(adapter: AdapterFolder) -> None:
    manifest = generation(
        adapter,
        "json",
        {"input": "lights on", "expect": {"intent": "on"}},
        {"prompt": "raw", "expect": None},
        {"messages": [{"role": "user", "content": "hi"}], "expect": [1]},
    )
    examples = load_generation_golden(adapter.path, manifest)

    assert [example.expect for example in examples] == [{"intent": "on"}, None, [1]]
    assert examples[2].messages is not None
    assert examples[2].messages[0].content == "hi"


@pytest.mark.parametrize(
    ("match", "example", "says"),
    [
        ("exact", {"expect": "a"}, "one of input, prompt and messages, found none"),
        ("exact", {"prompt": "a", "input": "b", "expect": "c"}, "found input, prompt"),
        ("exact", {"prompt": "a"}, "expect, as match is exact, found none"),
        ("exact", {"prompt": "a", "expect": 1}, "expect: text, found 1"),
        ("token", {"prompt": "a", "expect": {}}, "expect: text, found {}"),
        ("exact", {"prompt": "a", "pattern": "b"}, "expect, as match is exact, found pattern"),
        ("regex", {"prompt": "a", "expect": "b"}, "pattern, as match is regex, found expect"),
        ("regex", {"prompt": "a", "pattern": "("}, "pattern: a regular expression"),
        ("regex", {"prompt": "a", "pattern": "x" * 2000}, "over 1024 characters"),
        ("json", {"messages": [], "expect": 1}, "messages: "),
        ("json", {"messages": [{"role": "tool", "content": "x"}], "expect": 1}, "role: "),
        ("json", {"prompt": "a", "expect": 1, "extra": 2}, "extra: "),
    ],
)
def test_a_generation_example_that_cannot_be_run_is_refused(
    adapter: AdapterFolder, match: Match, example: dict[str, object], says: str
) -> None:
    manifest = generation(adapter, match, {"prompt": "p", "expect": "e", "pattern": "e"}, example)
    fine = {"prompt": "p", ("pattern" if match == "regex" else "expect"): "e"}
    lines = "".join(json.dumps(line) + "\n" for line in (fine, example))
    (adapter.path / "golden.jsonl").write_text(lines)

    with pytest.raises(AdapterRefused) as refused:
        load_generation_golden(adapter.path, manifest)
    assert str(refused.value).startswith("adapter sentiment: golden.jsonl: line 2: expected ")
    assert says in str(refused.value)


def test_an_input_needs_a_template(adapter: AdapterFolder) -> None:
    manifest = generation(adapter, "exact", {"input": "a", "expect": "b"}, prompt=False)

    with pytest.raises(AdapterRefused, match="prompt or messages, as the manifest has no template"):
        load_generation_golden(adapter.path, manifest)


@pytest.mark.parametrize(("lines", "says"), [(0, "found 0"), (10_001, "found 10001")])
def test_the_number_of_examples_is_bounded(adapter: AdapterFolder, lines: int, says: str) -> None:
    manifest = classification(adapter)
    (adapter.path / "golden.jsonl").write_text('{"input": "a", "label": "positive"}\n' * lines)

    with pytest.raises(AdapterRefused, match=f"1 to 10000 lines, {says}"):
        load_classification_golden(adapter.path, manifest)


def test_classification_is_scored_by_equal_sets() -> None:
    examples = [
        ClassificationExample(input="a", label="x"),
        ClassificationExample(input="b", label="y"),
        ClassificationExample(input="c", labels=("x", "y")),
    ]
    result = score_classification(examples, [frozenset("x"), frozenset("x"), frozenset(("y", "x"))])

    assert (result.total, result.passed, result.accuracy) == (3, 2, 2 / 3)
    failure = result.failure
    assert failure is not None
    assert (failure.line, failure.expected, failure.found) == (2, "y", "x")


def test_scoring_needs_an_answer_for_each_example() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_classification([ClassificationExample(input="a", label="x")], [])


def test_the_shown_failure_is_bounded() -> None:
    example = GenerationExample(prompt="a", expect="b")
    result = score_generation([example] * 50, ["c" * 1000] * 50, golden("exact"))

    assert result.passed == 0
    assert result.failure is not None
    assert len(result.failure.found) == 200


@pytest.mark.parametrize(
    ("match", "expect", "answer", "passes"),
    [
        ("exact", "turn on", " turn on\n", True),
        ("exact", "turn on", "Turn on", False),
        ("exact", "turn on", "turn on the light", False),
        ("json", {"a": [1, {"b": None}]}, '{ "a": [1.0, {"b": null}] }\n', True),
        ("json", {"a": 1}, '{"a": 1, "b": 2}', False),
        ("json", {"a": 1}, '{"a": true}', False),
        ("json", {"a": True}, '{"a": true}', True),
        ("json", [1, 2], "[2, 1]", False),
        ("json", [1, 2], "[1]", False),
        ("json", None, "null", True),
        ("json", None, "", False),
        ("json", {"a": 1}, 'Sure: {"a": 1}', False),
        ("json", [], "[" * 100_000, False),
        ("tool_calls", CALL, CALL.replace("\n", " "), True),
        ("tool_calls", CALL, CALL.replace('"a": 1, "b": 2', '"b": 2, "a": 1'), True),
        ("tool_calls", CALL, CALL.replace("1", "true"), False),
        ("tool_calls", CALL, CALL.replace("2", '"2"'), False),
        ("tool_calls", CALL, CALL + CALL, False),
        ("tool_calls", CALL, f"So: {CALL}", False),
        ("tool_calls", CALL, CALL.removesuffix("</tool_call>"), False),
        ("tool_calls", CALL, f"<tool_call>{'[' * 100_000}</tool_call>", False),
        ("tool_calls", "I cannot.", " I cannot.\n", True),
        ("tool_calls", "I cannot.", CALL, False),
        ("token", "turn the light on", "turn the light on", True),
        ("token", "turn the light on", "light the turn on", True),
        ("token", "turn the light on", "turn light on", True),
        ("token", "turn the light on", "turn it on", False),
        ("token", "turn", "", False),
        ("words", "the Earl of Kent", " Earl of Kent.\n", True),
        ("words", "the Earl of Kent", "an earl of the 'Kent'", True),
        ("words", "the Earl of Kent", "Kent", False),
        ("words", "the Earl of Kent", "Kent of Earl", False),
        ("words", "Theodore", "The Odore", False),
        ("words", "parents'", "Parents", True),
        ("words", "Kent", "", False),
    ],
)
def test_generation_is_scored_by_its_match(
    match: Match, expect: Any, answer: str, passes: bool
) -> None:
    example = GenerationExample(prompt="p", expect=expect)

    assert score_generation([example], [answer], golden(match)).passed == passes


@pytest.mark.parametrize(
    ("wanted", "answer", "passes"),
    [
        (r"\d{4}", " 2026\n", True),
        (r"\d{4}", "in 2026", False),
        ("a|b", "b", True),
        ("a|b", "ab", False),
    ],
)
def test_a_pattern_matches_the_whole_answer(wanted: str, answer: str, passes: bool) -> None:
    example = GenerationExample(prompt="p", pattern=wanted)

    assert score_generation([example], [answer], golden("regex")).passed == passes


def test_a_pattern_that_takes_too_long_ends_the_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = GenerationExample(prompt="p", pattern="a*!")
    slow = GenerationExample(prompt="p", pattern=SLOW)
    monkeypatch.setattr(pattern, "PATTERN_SECONDS", 0.5)

    with pytest.raises(PatternRefused, match=r"^line 2: over 0\.5 s, all matches together"):
        score_generation([fine, slow, slow], [ANSWER] * 3, golden("regex"))


def test_scoring_ends_when_its_time_is_over() -> None:
    example = GenerationExample(prompt="p", expect="a")

    with pytest.raises(TimeoutError):
        score_generation([example], ["a"], golden("exact"), -1.0)


def test_token_f1_of_a_known_case() -> None:
    # Precision 2/3, recall 2/4.
    assert token_f1("a b x", "a b c d") == pytest.approx(4 / 7)


@given(st.text(), st.text())
def test_token_f1_is_symmetric_and_a_share(answer: str, expected: str) -> None:
    f1 = token_f1(answer, expected)

    assert 0 <= f1 <= 1
    assert f1 == token_f1(expected, answer)
    assert token_f1(answer, answer) == bool(answer.split())


def test_a_few_short_inputs_are_offered_each_of_another_label(adapter: AdapterFolder) -> None:
    adapter.golden = [
        {"input": "long " * 300, "label": "positive"},
        {"input": "I like it.", "label": "positive"},
        {"input": "I love it.", "label": "positive"},
        {"input": "I hate it.", "label": "negative"},
    ]
    manifest = classification(adapter)
    tried = requests_to_try(adapter.path, manifest)
    assert tried == ({"input": "I like it."}, {"input": "I hate it."})


def test_what_is_asked_of_a_generating_adapter_is_offered_as_a_request(
    adapter: AdapterFolder,
) -> None:
    turns = [{"role": "system", "content": "Translate."}, {"role": "user", "content": "Hi"}]
    asked: list[dict[str, Any]] = [
        {"messages": turns},
        {"prompt": "Sea"},
        {"input": "x"},
        {"prompt": "more"},
    ]
    examples = [{**each, "expect": "so"} for each in asked]
    manifest = generation(adapter, "exact", *examples)
    assert manifest.prompt is not None
    rendered = {"prompt": manifest.prompt.render("x")}
    assert requests_to_try(adapter.path, manifest) == (
        {"messages": turns},
        {"prompt": "Sea"},
        rendered,
    )


def test_an_adapter_without_golden_examples_offers_nothing(adapter: AdapterFolder) -> None:
    del adapter.manifest["golden"]
    assert requests_to_try(adapter.path, classification(adapter)) == ()
