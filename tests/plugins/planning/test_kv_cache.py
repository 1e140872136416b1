"""The bytes of a sequence's KV cache, by hand."""

from service.plugins.planning.machine import CacheLayer, CacheShape

FULL, SLIDING = CacheLayer(1024), CacheLayer(1024, window=512)


def test_layers_that_see_everything_hold_whole_blocks() -> None:
    shape = CacheShape([FULL] * 30, block=16, step=2048, length=1000)
    assert shape.sequence_bytes() == 30 * 1024 * 1008


def test_layers_with_a_window_hold_it_and_a_step() -> None:
    # 5 : 1 as Gemma's: groups of 4 layers, five of them with a window.
    shape = CacheShape([FULL] * 4 + [SLIDING] * 20, block=16, step=64, length=8192)
    windows = (511 + 64 + 15) // 16 + 1
    assert shape.sequence_bytes() == 4 * 16 * 1024 * (8192 // 16 + 5 * windows)


def test_kinds_of_nearly_as_many_layers_are_padded_to_the_larger_one() -> None:
    shape = CacheShape([FULL] * 13 + [SLIDING] * 12, block=16, step=64, length=8192)
    windows = (511 + 64 + 15) // 16 + 1
    assert shape.sequence_bytes() == 13 * 16 * 1024 * (8192 // 16 + windows)


def test_the_longest_sequence_is_the_last_that_fits() -> None:
    shape = CacheShape([FULL] * 2, block=16, step=64, length=8192)
    for available in (0, 2 * 1024 * 16 - 1, 2 * 1024 * 16, 3_000_000, 1 << 40):
        longest = shape.longest(available)
        assert longest == 0 or shape.sequence_bytes(longest) <= available
        assert longest == 8192 or shape.sequence_bytes(longest + 1) > available
