import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.admission.queued_request import LazyHeap

ITEMS = st.integers(0, 8)


class LazyHeapMachine(RuleBasedStateMachine):
    """Against a list that is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.heap: LazyHeap[int] = LazyHeap()
        self.model: list[tuple[int, int]] = []

    @rule(item=ITEMS, key=st.integers(0, 4))
    def set(self, item: int, key: int) -> None:
        self.heap.set(item, key)
        self.model = [entry for entry in self.model if entry[1] != item] + [(key, item)]

    @rule(item=ITEMS)
    def discard(self, item: int) -> None:
        self.heap.discard(item)
        self.model = [entry for entry in self.model if entry[1] != item]

    @rule()
    def discard_the_least(self) -> None:
        if (top := self.heap.peek()) is not None:
            self.discard(top[1])

    @invariant()
    def shows_the_least_and_the_oldest_of_equals(self) -> None:
        assert self.heap.peek() == min(self.model, key=lambda entry: entry[0], default=None)
        assert len(self.heap) == len(self.model)
        assert all(
            (item in self.heap) == any(e[1] == item for e in self.model) for item in range(9)
        )


TestLazyHeap = LazyHeapMachine.TestCase


def test_memory_is_bounded_by_the_live_items() -> None:
    heap: LazyHeap[str] = LazyHeap()
    heap.set("least", 0.0)
    for key in range(10_000):
        heap.set("moved", key)
        heap.set("dropped", key)
        heap.discard("dropped")
    assert len(heap._heap) < 200
    for entry in ((0.0, "least"), (9_999, "moved")):
        assert heap.peek() == entry
        heap.discard(entry[1])
    assert heap.peek() is None
