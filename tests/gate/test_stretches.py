"""Ratios of the time that a tenant's requests took to their forecast: quantile and memory."""

from service.gate.stretches import Stretches


def test_nothing_known_is_no_stretch() -> None:
    assert Stretches().of("a", 0.0) == 1.0


def test_nine_in_ten_were_no_longer() -> None:
    stretches = Stretches()
    for number in range(1, 12):
        stretches.add("a", float(number), 0.0)
    assert stretches.of("a", 0.0) == 10.0


def test_ratios_are_forgotten_after_ten_seconds() -> None:
    stretches = Stretches()
    stretches.add("a", 3.0, 0.0)
    assert stretches.of("a", 10.0) == 3.0
    assert stretches.of("a", 10.1) == 1.0


def test_only_the_latest_128_are_kept() -> None:
    stretches = Stretches()
    for stretch in (5.0, 2.0):
        for _ in range(128):
            stretches.add("a", stretch, 0.0)
    assert stretches.of("a", 0.0) == 2.0
