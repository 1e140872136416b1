"""Figures of written answers; chrF against sacrebleu's."""

import pytest
from sacrebleu import sentence_chrf

from evaluation.answers import answer_figures, chrf, refusal_figures
from evaluation.lines import CompletedLine, JsonLine, PatternLine
from evaluation.suite import Generation


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Ouvrez le fichier.", "Ouvrez le fichier."),
        ("Ouvrez un dossier", "Sélectionnez le fichier."),
        ("le", "le fichier"),
        ("Le fichier est ouvert dans la fenêtre.", "fichier"),
        ("", "something"),
        ("xyz", "abc"),
        ("a  b\tc d", "a b c d e"),
    ],
)
def test_chrf_is_that_of_sacrebleu(answer: str, expected: str) -> None:
    assert chrf(answer, expected) == pytest.approx(sentence_chrf(answer, [expected]).score)


def task(match: str) -> Generation:
    return Generation.model_validate(
        {"name": "t", "kind": "generation", "lines": "l", "licence": "MIT", "match": match}
    )


def test_json_is_compared_as_a_value() -> None:
    lines = [JsonLine(prompt="a", completion='{"a": 1, "b": 2}')] * 3
    found = answer_figures(task("json"), lines, ['{"b":2,"a":1}', '{"a": 1}', "no"])
    assert found["match"].value == pytest.approx(1 / 3)
    assert found["chrf"].value > 0


def test_words_are_the_same_in_any_case_and_with_any_article() -> None:
    lines = [CompletedLine(prompt="a", completion="the red house")] * 2
    found = answer_figures(task("words"), lines, ["Red house!", "red houses"])
    assert found["match"].value == 0.5


def test_words_are_compared_beside_exact_matches() -> None:
    lines = [CompletedLine(prompt="a", completion="the red house")]
    found = answer_figures(task("exact"), lines, ["the blue house"])
    assert found["match"].value == 0
    assert found["token_f1"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize(("match", "kind"), [("words", CompletedLine), ("json", JsonLine)])
def test_the_best_of_several_right_answers_counts(match: str, kind: type[CompletedLine]) -> None:
    lines = [kind(prompt="a", completion='"red house"', alternatives=('"blue sea"',))] * 2
    found = answer_figures(task(match), lines, ['"blue sea"', '"blue"'])
    assert found["match"].value == 0.5
    single = answer_figures(task(match), lines[:1], ['"blue sea"'])
    assert single["token_f1"].value == 1
    assert single["chrf"].value == pytest.approx(100)


def test_a_pattern_matches_the_whole_answer() -> None:
    lines = [PatternLine(prompt="a", pattern=r"[A-Z]\d+")] * 2
    found = answer_figures(task("regex"), lines, ["B12", "It is B12"])
    assert found.keys() == {"match"}
    assert found["match"].value == 0.5


def test_a_refusal_is_found_anywhere_and_in_any_case() -> None:
    answers = ["I'M SORRY, no.", "Well, i cannot do that", "Sure, here it is"]
    found = refusal_figures([r"\bI'm sorry", r"\bI cannot\b"], answers)
    assert found["refusal"].value == pytest.approx(2 / 3)
