"""Batches: every example once an epoch, hardly any padding, the same for the same seed."""

import random

import pytest

from service.errors import ConfigurationError
from training.batches import batches_by_length, padding, plan_batches
from training.examples import Example


def examples(count: int = 2000, longest: int = 100) -> list[Example]:
    draw = random.Random(0)
    return [Example((0,) * draw.randint(5, longest)) for _ in range(count)]


def test_an_epoch_takes_every_example_once_and_pads_little() -> None:
    given = examples()
    batches = plan_batches(given, 1024, seed=1, epochs=1)
    assert sorted(i for batch in batches for i in batch.indices) == list(range(len(given)))
    assert all(batch.places <= 1024 for batch in batches)
    assert sum(batch.tokens for batch in batches) == sum(len(e.token_ids) for e in given)
    assert padding(batches) < 0.05


def test_epochs_differ_and_the_seed_decides() -> None:
    given = examples(300)
    one = plan_batches(given, 512, seed=1, epochs=2)
    assert one == plan_batches(given, 512, seed=1, epochs=2)
    assert one != plan_batches(given, 512, seed=2, epochs=2)
    half = len(one) // 2
    assert one[:half] != one[half:]


def test_an_epoch_may_be_a_part_of_one() -> None:
    given = examples(300)
    whole = plan_batches(given, 512, seed=1, epochs=1)
    assert plan_batches(given, 512, seed=1, epochs=0.5) == whole[: round(len(whole) * 0.5)]


def test_looking_once_takes_every_example_once() -> None:
    given = examples(100)
    found = [i for batch in batches_by_length(given, 256) for i in batch.indices]
    assert sorted(found) == list(range(100))


def test_a_line_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_tokens: 50 is less than the longest"):
        plan_batches(examples(), 50, seed=1, epochs=1)
