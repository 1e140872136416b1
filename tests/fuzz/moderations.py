"""Random bodies of /v1/moderations, and the check that every text got a verdict."""

import random
from typing import Any

import httpx

from tests.fuzz.pieces import broken, text

PATH, GUARD = "/v1/moderations", "judge"
_FIELDS = ["model", "input", "service_tier"]


def body(dice: random.Random) -> dict[str, Any]:
    """A body: two of three are well formed, the others broken in one or two fields."""
    texts = [text(dice, dice.choice([3, 30, 300])) or "a" for _ in range(dice.choice([1, 2, 9]))]
    forms = [texts[0], texts, [{"type": "text", "text": each} for each in texts]]
    made: dict[str, Any] = {"input": dice.choice(forms)}
    if dice.random() < 0.3:
        made["model"] = dice.choice([GUARD, GUARD, "tiny"])
    return broken(dice, made, _FIELDS) if dice.random() < 1 / 3 else made


def check(response: httpx.Response, sent: dict[str, Any]) -> None:
    """Raise AssertionError for a 200 without one verdict for each text; parts are one text."""
    given = sent["input"]
    whole = isinstance(given, str) or isinstance(given[0], dict)
    results = response.json()["results"]
    assert len(results) == (1 if whole else len(given)), results
    for result in results:
        assert result["flagged"] == any(result["categories"].values()), result
        assert result["categories"].keys() == result["category_scores"].keys()
        assert all(0 <= score <= 1 for score in result["category_scores"].values()), result
