"""Distance of a model's latest inputs from its reference."""

import math
import random

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from scipy import stats

from service.adapters.formats import InputReference
from service.engine.pooling import LENGTH_EDGES, SCORE_EDGES, InputCounts, Reference
from service.telemetry.drift import LEAST, WINDOW, DriftMetrics, ks, psi

LABELS = ("a", "b")


def reference(inputs: list[tuple[str, float, int]]) -> InputReference:
    counts = InputCounts(LABELS)
    for each in inputs:
        counts.add(*each)
    return InputReference(
        labels=counts.labels, scores=tuple(counts.scores), lengths=tuple(counts.lengths)
    )


def drawn(
    count: int, seed: int, share: float = 0.5, most: int = 1000
) -> list[tuple[str, float, int]]:
    draws = random.Random(seed)
    return [
        ("a" if draws.random() < share else "b", draws.random(), draws.randint(1, most))
        for _ in range(count)
    ]


class Watched:
    """The series after inputs of one model."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.clock = 0.0
        self.drift = DriftMetrics(self.registry, lambda: self.clock)

    def see(self, inputs: list[tuple[str, float, int]], expected: Reference) -> None:
        for each in inputs:
            self.drift.observe("m", expected, *each)

    def value(self, name: str, of: str) -> float:
        found = self.registry.get_sample_value(f"inference_drift_{name}", {"model": "m", "of": of})
        assert found is not None
        return found

    def values(self) -> dict[tuple[str, str], float]:
        kinds = [("psi", of) for of in ("labels", "scores", "lengths")]
        kinds += [("ks", of) for of in ("scores", "lengths")]
        return {kind: self.value(*kind) for kind in kinds}


def test_inputs_like_the_reference_are_near() -> None:
    watched = Watched()
    watched.see(drawn(900, seed=1), reference(drawn(900, seed=2)))
    assert all(value < 0.1 for value in watched.values().values())


@pytest.mark.parametrize(
    ("inputs", "of"),
    [
        (drawn(900, seed=1, share=0.9), "labels"),
        (drawn(900, seed=1, most=80), "lengths"),
        ([(label, score**3, length) for label, score, length in drawn(900, seed=1)], "scores"),
    ],
)
def test_what_differs_is_far_and_the_rest_is_not(
    inputs: list[tuple[str, float, int]], of: str
) -> None:
    watched = Watched()
    watched.see(inputs, reference(drawn(900, seed=2)))
    far = {kind for kind, value in watched.values().items() if value > 0.2}
    assert far == {kind for kind in watched.values() if kind[1] == of}


def test_few_inputs_say_nothing() -> None:
    watched, expected = Watched(), reference(drawn(900, seed=2))
    watched.see(drawn(LEAST - 1, seed=1), expected)
    assert all(map(math.isnan, watched.values().values()))
    watched.see(drawn(1, seed=3), expected)
    assert not any(map(math.isnan, watched.values().values()))


def test_an_hour_after_the_last_input_there_is_no_distance() -> None:
    watched, expected = Watched(), reference(drawn(900, seed=2))
    watched.see(drawn(900, seed=1), expected)
    watched.clock = 3599.0
    assert not math.isnan(watched.value("psi", "labels"))
    watched.clock = 3600.0
    assert all(math.isnan(value) for value in watched.values().values())
    watched.see(drawn(1, seed=3), expected)
    assert not any(math.isnan(value) for value in watched.values().values())


def test_old_inputs_are_forgotten_and_another_reference_begins_anew() -> None:
    watched, expected = Watched(), reference(drawn(900, seed=2))
    watched.see(drawn(900, seed=1, share=1.0), expected)
    assert watched.value("psi", "labels") > 1
    watched.see(drawn(WINDOW, seed=4), expected)
    assert watched.value("psi", "labels") < 0.1
    watched.see(drawn(LEAST - 1, seed=1), reference(drawn(900, seed=5)))
    assert math.isnan(watched.value("psi", "labels"))


def test_the_distances_are_those_of_the_statistics() -> None:
    found, expected = np.array([30, 50, 20]), np.array([20, 50, 30])
    p, q = (found + 0.5) / 101.5, (expected + 0.5) / 101.5
    assert psi(list(found), list(expected)) == pytest.approx(
        stats.entropy(p, q) + stats.entropy(q, p)
    )
    values = [np.repeat([0, 1, 2], counts) for counts in (found, expected)]
    assert ks(list(found), list(expected)) == pytest.approx(stats.ks_2samp(*values).statistic)
    assert psi([5, 5], [5, 5]) == ks([5, 5], [5, 5]) == 0


@pytest.mark.parametrize(("edges", "of"), [(SCORE_EDGES, "scores"), (LENGTH_EDGES, "lengths")])
def test_an_edge_belongs_to_its_bin(edges: tuple[float, ...], of: str) -> None:
    counts = InputCounts(LABELS)
    for edge in edges:
        counts.add("a", edge if of == "scores" else 0, int(edge) if of == "lengths" else 0)
    found = getattr(counts, of)
    assert found == [1] * len(edges) + [0]
