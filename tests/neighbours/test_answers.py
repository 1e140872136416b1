"""The comparison of answers alone and among neighbours: what it must see, and what it may pass."""

from pathlib import Path
from typing import Any

import pytest

from service.adapters.manifest_yaml import load_manifest
from tests.neighbours.answers import Answer, Changed, Comparison, Place, answers
from tests.neighbours.models import smollm2
from tests.neighbours.requests import RequestMaker

TOP = {" a": -1.0, " b": -1.5, " c": -2.0}


def completion(tops: list[dict[str, float]]) -> list[Answer]:
    """The answer of /v1/completions whose tokens are the first of each place's alternatives."""
    tokens = [next(iter(top)) for top in tops]
    logprobs = {
        "tokens": tokens,
        "token_logprobs": [top[token] for token, top in zip(tokens, tops, strict=True)],
        "top_logprobs": tops,
    }
    choice: dict[str, Any] = {"text": "".join(tokens), "finish_reason": "length"}
    return answers({"choices": [choice | {"logprobs": logprobs}]})


def compare(alone: Any, mixed: Any, *, plain: bool = True, may_part: bool = False) -> Comparison:
    comparison = Comparison(tolerance=0.01, may_part=may_part)
    comparison.compare(alone, mixed, plain=plain)
    return comparison


def test_rounding_is_no_change() -> None:
    comparison = compare(completion([TOP, TOP]), completion([TOP, TOP | {" b": -1.505}]))

    assert (comparison.compared, comparison.places, comparison.parted) == (1, 2, 0)
    assert comparison.widest == pytest.approx(0.005)


def test_alternatives_may_change_only_at_the_edge() -> None:
    rim = {" a": -1.0, " c": -2.0, " d": -2.0}

    compare(completion([TOP]), completion([{" a": -1.0, " b": -1.5, " d": -2.0}]))
    with pytest.raises(Changed, match="alternatives"):
        compare(completion([TOP]), completion([rim]))


@pytest.mark.parametrize(
    "mixed",
    [
        {" a": -1.0, "<|endoftext|>": -9999.0},  # what vLLM answers beside a label read
        {" a": -1.0, " b": -1.5},
        {" a": -1.2, " b": -1.5, " c": -2.0},
        {" b": -1.5, " a": -1.0, " c": -2.0},
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_changed_place_is_seen(mixed: dict[str, float], plain: bool) -> None:
    with pytest.raises(Changed):
        compare(completion([TOP, TOP]), completion([TOP, mixed]), plain=plain)


def test_a_close_call_ends_the_comparison() -> None:
    close, other = {" a": -1.0, " b": -1.005}, {" b": -1.0, " a": -1.005}
    after = {" z": -3.0}

    comparison = compare(completion([close, TOP]), completion([other, after]))

    assert (comparison.places, comparison.parted) == (1, 1)
    with pytest.raises(Changed):
        compare(completion([close, TOP]), completion([other, after]), plain=False)
    assert compare(completion([close]), completion([other]), plain=False, may_part=True).parted


TIED = {" a": -1.0, " b": -1.0}


@pytest.mark.parametrize(
    ("alone", "mixed"),
    [
        (TIED, {" a": -1.005}),  # the one asked for, beside the chosen one and without it
        ({" a": -1.0}, TIED),
        ({" z": -5.0, " a": -1.0, " b": -1.5}, TOP),  # a seed chose an unlikely one
        ({" a": -1.0, "": -3.0, " c": -3.0}, {" a": -1.0, "": -0.5, " c": -3.0}),
    ],
)
def test_a_choice_by_coarse_arithmetic_is_no_change(
    alone: dict[str, float], mixed: dict[str, float]
) -> None:
    compare(completion([alone]), completion([mixed]), may_part=True)


@pytest.mark.parametrize(
    "mixed",
    [
        {" a": -1.0, "<|endoftext|>": -9999.0},  # what vLLM answers beside a label read
        {" a": -1.0},
        {" a": -1.2, " b": -1.5, " c": -2.0},
        {" a": -1.0, " b": -1.5, " x": -1.4},
    ],
)
def test_a_changed_place_is_seen_by_coarse_arithmetic_too(mixed: dict[str, float]) -> None:
    with pytest.raises(Changed):
        compare(completion([TOP]), completion([mixed]), may_part=True)


@pytest.mark.parametrize("may_part", [True, False])
def test_a_lost_place_or_answer_is_seen(may_part: bool) -> None:
    with pytest.raises(Changed, match="places"):
        compare(completion([TOP, TOP]), completion([TOP]), may_part=may_part)
    with pytest.raises(Changed, match="answers"):
        compare(completion([TOP]), [], may_part=may_part)


def test_measures_are_compared() -> None:
    output = {"text": "x", "finish_reason": "stop"}
    confidence = {"mean_token_logprob": -1.0, "min_token_probability": 0.1, "mean_entropy": 1.03}
    alone = answers({"outputs": [output | {"confidence": confidence}]})
    mixed = answers({"outputs": [output | {"confidence": confidence | {"mean_entropy": 0.6}}]})

    with pytest.raises(Changed, match="measures"):
        compare(alone, mixed)
    with pytest.raises(Changed, match="measures"):
        compare(answers({"data": [{"probs": [0.9]}]}), answers({"data": [{"probs": [0.8]}]}))


def test_chat_and_token_ids_are_read_too() -> None:
    content = [{"token": "x", "logprob": -1.0, "top_logprobs": [{"token": "y", "logprob": -0.9}]}]
    message = {"message": {"content": "x"}, "finish_reason": "stop"}

    (told,) = answers({"choices": [message | {"logprobs": {"content": content}}]})
    (bare,) = answers({"choices": [message | {"logprobs": None, "token_ids": [7]}]})

    assert told.places == [Place("x", -1.0, {"y": -0.9})]
    assert bare.places == [Place("7")]


def test_a_request_is_the_same_each_time() -> None:
    first, again = (RequestMaker(1, ["m", "a"], ["c"]) for _ in range(2))

    requests = [first.request(number) for number in range(200)]

    assert requests == [again.request(number) for number in range(200)]
    assert {request.path for request in requests} == {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/generate",
        "/v1/classify",
    }


def test_the_default_model_is_served_by_the_name_that_its_adapters_have(tmp_path: Path) -> None:
    config, _, _ = smollm2(tmp_path)
    bases = {load_manifest(Path(each["source"])).base_model.name for each in config["adapters"]}
    assert bases == {config["model"]["name"]}
