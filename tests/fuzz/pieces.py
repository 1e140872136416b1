"""Text and values that break parsers, tokenisers and templates."""

import random
from collections.abc import Sequence
from typing import Any

PIECES = [
    *("a", "b", "good", "bad", "New", "York", "_", ",", '"', "'", "\\", "{", "}", "{input}", "%s"),
    *(" ", "\n", "\t", "\r\n", "\u00a0", "\u200b", "\u202e", "\x00", "\x1b[31m", "\ufffc"),
    *("é", "e\u0301", "中文", "ß", "😀", "👍🏽", "👩\u200d👧", "\U0010ffff", "\u0627", "Label:"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<s>", "</s>", "[MASK]", "<end>"),
]
ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**63, 2**70, 0.5, -0.0, 1e308, "", "1", "\ud800"),
    *([], {}, ["a"], [[]], {"a": 1}, ["a", "\ud800"], ["a", "a"], ["a", " "]),
]


def text(dice: random.Random, longest: int) -> str:
    """A text of at most that many pieces."""
    return "".join(dice.choice(PIECES) for _ in range(dice.randint(0, longest)))


def broken(dice: random.Random, body: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The body with an odd value in one or two of the fields, or in one that no route has."""
    odd = {
        dice.choice([field, field, field, "unknown"]): dice.choice(ODD)
        for field in dice.sample(fields, dice.choice([1, 1, 2]))
    }
    return body | odd
