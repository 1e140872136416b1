"""Random bodies of /v1/classify, and the check that an answer is a distribution."""

import json
import math
import random
from typing import Any

import httpx

from tests.fuzz.pieces import PIECES, broken, text

# Without timeout_ms, because a passed deadline is rightly answered with 504.
_FIELDS = [
    *("model", "input", "candidate_labels", "instruction", "multi_label", "calibrate"),
    *("top_k", "threshold", "template"),
]


def body(dice: random.Random) -> dict[str, Any]:
    """A body: two of three are well formed, the others broken in one or two fields."""
    made = _well_formed(dice)
    return broken(dice, made, _FIELDS) if dice.random() < 1 / 3 else made


def check(response: httpx.Response, body: dict[str, Any]) -> None:
    """Raise AssertionError for a 200 that is not one distribution for each input."""
    lines = response.headers["content-type"] == "application/x-ndjson"
    items = (
        [json.loads(line) for line in response.text.splitlines()][:-1]
        if lines
        else response.json()["data"]
    )
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    assert sorted(item["index"] for item in items) == list(range(len(inputs)))
    for item in items:
        if "error" in item:
            assert item["error"]["type"] == "invalid_request_error", item
        else:
            _check_item(item, body)


def _check_item(item: dict[str, Any], body: dict[str, Any]) -> None:
    probs = item["probs"]
    assert len(probs) == item["num_classes"] == len(body["candidate_labels"])
    assert all(math.isfinite(prob) and 0 <= prob <= 1 + 1e-9 for prob in probs), item
    if not body.get("multi_label"):
        assert math.isclose(sum(probs), 1, abs_tol=1e-6), item
    scores = [score["score"] for score in item["scores"]]
    assert scores == sorted(probs, reverse=True)[: body.get("top_k")]
    assert item["abstained"] == (item["label"] is None)


def _well_formed(dice: random.Random) -> dict[str, Any]:
    count = dice.choice([1, 1, 1, 2, 5, 20])
    body: dict[str, Any] = {
        "model": "tiny",
        "input": [text(dice, dice.choice([3, 3, 3, 3, 30, 30, 300, 3000])) for _ in range(count)],
        "candidate_labels": _labels(dice),
        "calibrate": dice.random() < 0.1,
    }
    if len(body["candidate_labels"]) >= 60:
        # Hundreds of labels for each of many inputs would take most of the reads.
        body["input"] = body["input"][:1]
    if dice.random() < 0.3:
        body["input"] = body["input"][0]
    if dice.random() < 0.2:
        ending = dice.choice(["\nLabel:", " is", "?", "\n", " ->", text(dice, 3)])
        body["template"] = f"{text(dice, 5)}{{input}}{ending}"
        return body
    if dice.random() < 0.3:
        body["instruction"] = text(dice, dice.choice([3, 10, 200]))
    if dice.random() < 0.2:
        body["multi_label"] = True
    if dice.random() < 0.3:
        body["top_k"] = dice.choice([1, 2, 1000])
    if dice.random() < 0.3:
        body["threshold"] = dice.choice([0, 1, dice.random()])
    return body


def _labels(dice: random.Random) -> list[str]:
    count = dice.choice([2, 2, 2, 3, 5, 12, 12, 60, 256, 257])
    if count < 60:
        return [f"{dice.choice(PIECES[:6])}{text(dice, 3)}{n}" for n in range(count)]
    return [f"{dice.choice(PIECES[:6])} {n}" for n in range(count)]
