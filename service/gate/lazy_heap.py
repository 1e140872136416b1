"""A priority queue whose items can be moved and removed."""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

_SLACK = 64


class LazyHeap(Generic[Item]):
    """Distinct items by their key, smallest first; equal keys in the order they were set.

    Moved and removed items leave a dead entry, dropped when it reaches the top or dead entries
    outnumber live ones: every operation is O(log n) amortised, memory is linear in live items.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._live: dict[Item, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Item]:
        """The items in no order of their keys."""
        return iter(self._live)

    def __contains__(self, item: Item) -> bool:
        return item in self._live

    def set(self, item: Item, key: float) -> None:
        """Insert an item, or move it behind those of the same key."""
        self._serial += 1
        self._live[item] = self._serial
        heappush(self._heap, (key, self._serial, item))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def discard(self, item: Item) -> None:
        """Remove an item if it is there."""
        self._live.pop(item, None)

    def peek(self) -> tuple[float, Item] | None:
        """The smallest key with its item, None when empty."""
        while self._heap:
            key, serial, item = self._heap[0]
            if self._live.get(item) == serial:
                return key, item
            heappop(self._heap)
        return None

    def pop(self) -> tuple[float, Item] | None:
        """Remove and return the entry that `peek` shows."""
        top = self.peek()
        if top is not None:
            heappop(self._heap)
            del self._live[top[1]]
        return top
