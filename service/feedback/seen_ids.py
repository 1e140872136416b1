"""Answers that were rated, so that each counts once."""

import heapq
from collections.abc import Iterable, Iterator

from service.feedback.answer import RatedAnswer
from service.feedback.answer_ids import DAY_SECONDS, too_old

MOST = 32_768

Seen = tuple[int, str]
"""The time and the nonce of an answer."""


class SeenIds:
    """The answers that were rated: of a day, and at most MOST.

    Where the memory is full the oldest answer leaves it, and no answer as old can be rated any
    more: so none ever counts twice.
    """

    def __init__(self, seen: Iterable[Seen] = (), floor: int = 0) -> None:
        self._heap = list(seen)
        heapq.heapify(self._heap)
        self._members = set(self._heap)
        self.floor = floor

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._heap)

    def add(self, answer: RatedAnswer, now: float) -> bool:
        """Remember an answer; False if it was rated already.

        Raises InvalidRequest for one whose time has passed.
        """
        seen = (answer.time, answer.nonce)
        if seen in self._members:
            return False
        if answer.time <= self.floor:
            raise too_old("too many answers since this one were rated")
        heapq.heappush(self._heap, seen)
        self._members.add(seen)
        while self._heap[0][0] < now - DAY_SECONDS - 1:
            self._members.remove(heapq.heappop(self._heap))
        if len(self._heap) > MOST:
            oldest = heapq.heappop(self._heap)
            self._members.remove(oldest)
            self.floor = oldest[0]
        return True
