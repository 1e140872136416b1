"""Walks through a compiled grammar, to measure how long the engine takes for its masks.

Before each token the engine computes the set of allowed tokens (the mask), for all tenants in one
thread. The first mask says little about later ones: for a schema with 300 equal branches the first
took a tenth of a millisecond, and the one two tokens later 580 ms.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import xgrammar

STEPS = 64
"""Tokens of a walk."""
_RANDOM_WALKS = 3
_OPENERS = 16
_MEAN_PART = 0.5
"""Part of a mask's limit that the masks of a walk may take on average."""
_MARKS = frozenset(bytes([each]) for each in b'"[]{},:0-1.')


class LimitExceeded(Exception):
    """A structure takes more than a limit: `time`, `memory` or `mask`."""


class DeadEnd(Exception):
    """A structure allows no token after a text that it allows."""


class Vocabulary:
    """The tokens of the model, with those of punctuation listed separately."""

    def __init__(self, tokens: xgrammar.TokenizerInfo) -> None:
        self.tokens = tokens
        self.texts = texts = tokens.decoded_vocab
        self.ends = tokens.stop_token_ids
        self.marks = [i for i, text in enumerate(texts) if text in _MARKS]
        openers = [i for i, text in enumerate(texts) if text and not text.strip(b"[{")]
        self.openers = sorted(openers, key=lambda i: -len(texts[i]))[:_OPENERS]
        """Tokens that begin arrays and objects, the most at once first."""


class Walker:
    """Walks a compiled grammar token by token, and measures the CPU time of each mask.

    Raises `LimitExceeded` for a mask above `most` seconds or a walk whose masks take too long on
    average, and `DeadEnd` if no token is allowed. `worst` is the longest mask so far, in seconds.
    After `seconds` no further walk begins.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        most: float,
        seconds: float,
        *,
        seed: int = 0,
        steps: int = STEPS,
    ) -> None:
        self._vocabulary = vocabulary
        self._most = most
        self._size = vocabulary.tokens.vocab_size
        self._mask = xgrammar.allocate_token_bitmask(1, self._size)
        self._bytes = self._mask.numpy().view(numpy.uint8)[0]
        self._random = random.Random(seed)  # the same walks for the same structure
        self._steps = steps
        self._until = time.process_time() + seconds
        self._sum = 0.0
        self.worst = 0.0

    def walk(self, grammar: Any, prefixes: Sequence[str] = ("",)) -> None:
        """Walk from each prefix in several ways: at random, deep, and towards slow masks."""
        ways = [self._random_token] * _RANDOM_WALKS + [self._deeper_token, self._dearer_token]
        for prefix in prefixes:
            for choose in ways:
                if time.process_time() > self._until and self.worst:
                    return
                matcher = xgrammar.GrammarMatcher(grammar)
                if not prefix or matcher.accept_string(prefix):
                    self._walk(matcher, choose)

    def _walk(self, matcher: Any, choose: Callable[[Any, Any], int | None]) -> None:
        self._sum = 0.0
        said: list[int] = []
        for _ in range(self._steps):
            if matcher.is_terminated():
                return
            self._time(matcher)
            allowed = numpy.unpackbits(self._bytes, bitorder="little")[: self._size]
            if not allowed.any():
                if matcher.is_completed():  # by a text that no token ends
                    return
                text = b"".join(self._vocabulary.texts[i] for i in said[-8:])
                raise DeadEnd(text.decode(errors="replace")[-40:])
            allowed[self._vocabulary.ends] = 0
            token = choose(matcher, allowed)
            if token is None or not matcher.accept_token(token):
                return
            said.append(token)

    def _time(self, matcher: Any) -> None:
        """Time a mask, by the lesser of two readings if the first exceeds the limit."""
        seconds = self._fill(matcher)
        if seconds > self._most:
            seconds = min(seconds, self._fill(matcher))
        self.worst = max(self.worst, seconds)
        self._sum += seconds
        if seconds > self._most or self._sum > self._steps * _MEAN_PART * self._most:
            raise LimitExceeded("mask")

    def _fill(self, matcher: Any) -> float:
        started = time.thread_time()
        matcher.fill_next_token_bitmask(self._mask)
        return time.thread_time() - started

    def _any(self, allowed: Any) -> int | None:
        """An allowed token, the first one from a random index on; None if none is allowed."""
        start = self._random.randrange(self._size)
        for part, first in ((allowed[start:], start), (allowed, 0)):
            at = int(part.argmax())
            if part[at]:
                return first + at
        return None

    def _mark(self, allowed: Any) -> int | None:
        """A random allowed token of punctuation, which leads to the next part of a JSON text."""
        found = [each for each in self._vocabulary.marks if allowed[each]]
        return self._random.choice(found) if found else None

    def _random_token(self, _: Any, allowed: Any) -> int | None:
        if self._random.random() < 0.5 and (mark := self._mark(allowed)) is not None:
            return mark
        return self._any(allowed)

    def _deeper_token(self, _: Any, allowed: Any) -> int | None:
        for each in self._vocabulary.openers:
            if allowed[each]:
                return each
        return self._random_token(_, allowed)

    def _dearer_token(self, matcher: Any, allowed: Any) -> int | None:
        """Of a few allowed tokens, the one after which the mask takes longest."""
        found = {self._deeper_token(matcher, allowed), self._mark(allowed), self._any(allowed)}
        best: tuple[float, int | None] = (-1.0, None)
        for token in sorted(each for each in found if each is not None):
            ahead = matcher.fork()
            if ahead.accept_token(token) and not ahead.is_terminated():
                best = max(best, (self._fill(ahead), token))
            elif best[1] is None:
                best = (-1.0, token)
        return best[1]
