"""Noise in texts: changes that keep the meaning, the same in every run."""

import random
import re
from collections.abc import Callable, Mapping
from typing import Literal

Noise = Literal["typos", "case", "spacing"]
_WORD = re.compile(r"[^\W\d_]{4,}")
_WORDS_PER_TYPO = 5


def noisy(text: str, noise: Noise) -> str:
    """The text under one change.

    `typos`: one in five of the words of at least four letters, and at least one word, gets two
    neighbouring inner letters exchanged; the text seeds the choice. `case`: capital letters only.
    `spacing`: every space doubled, and a space before the text.
    """
    return _CHANGES[noise](text)


def _typos(text: str) -> str:
    words = list(_WORD.finditer(text))
    if not words:
        return text
    chosen = random.Random(text)
    letters = list(text)
    for word in chosen.sample(words, -(-len(words) // _WORDS_PER_TYPO)):
        at = chosen.randrange(word.start() + 1, word.end() - 2)
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


_CHANGES: Mapping[str, Callable[[str], str]] = {
    "typos": _typos,
    "case": str.upper,
    "spacing": lambda text: " " + text.replace(" ", "  "),
}
