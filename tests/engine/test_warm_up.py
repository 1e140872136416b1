"""Warm-up's list of paths, compared with the kernels that vLLM's sampler chooses between."""

from collections import Counter
from collections.abc import Iterable

import pytest
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.ops.topk_topp_triton import _SPLIT_MAX_BATCH, _topp_split_count

from service.engine.contract import MAX_READ_IDS
from service.settings.limits import LimitSettings
from service.settings.section import CPU, CUDA
from service.vllm.self_check import paths

ON_GPUS = dict(paths(CUDA))
MULTIPROCESSORS = {"L4": 58, "A100": 108, "H100": 132, "B200": 148, "RTX PRO 6000": 188}


def power(number: int) -> int:
    """The least power of two that is as large."""
    return 1 << (number - 1).bit_length()


def rows(*cut: str) -> set[int]:
    """Sizes of batches that are sampled with exactly these cuts."""
    return {params.n for params in ON_GPUS.values() if set(cuts(params)) == set(cut)}


def cuts(params: SamplingParams) -> list[str]:
    return [name for name, off in (("top_p", 1.0), ("top_k", 0)) if getattr(params, name) != off]


def test_the_names_are_distinct() -> None:
    counted = Counter(name for name, _ in paths(CUDA))
    assert [name for name, count in counted.items() if count > 1] == []


def test_the_paths_of_cpus_come_first_everywhere() -> None:
    assert list(ON_GPUS)[:3] == [name for name, _ in paths(CPU)]
    assert list(ON_GPUS)[:3] == ["log-probabilities", "choice", "label read of 2"]


@pytest.mark.parametrize("card", MULTIPROCESSORS)
@pytest.mark.parametrize("cut", [("top_p",), ("top_k",), ("top_p", "top_k")])
def test_every_way_to_split_a_row_is_taken(card: str, cut: tuple[str, ...]) -> None:
    number = MULTIPROCESSORS[card]
    split = {_topp_split_count(size, number) for size in range(1, _SPLIT_MAX_BATCH + 1)}
    taken = {_topp_split_count(size, number) for size in rows(*cut) if size <= _SPLIT_MAX_BATCH}
    assert taken == split


@pytest.mark.parametrize("cut", [("top_p",), ("top_k",), ("top_p", "top_k")])
def test_large_batches_are_sampled_as_multiples_of_16_and_not(cut: tuple[str, ...]) -> None:
    large = {size % 16 == 0 for size in rows(*cut) if size > _SPLIT_MAX_BATCH}
    assert large == {True, False}


def test_a_batch_is_sampled_without_a_seed_too() -> None:
    cut = [params for params in ON_GPUS.values() if cuts(params)]
    unseeded = {(*cuts(params),) for params in cut if params.seed is None}
    assert unseeded == {(*cuts(params),) for params in cut if params.seed is not None}
    assert len(unseeded) == 3


def softmaxes(counts: Iterable[int]) -> set[tuple[int, bool, bool]]:
    """Kernels made of `_topk_log_softmax_kernel`: by the block, for multiples of 16, and for 1."""
    return {(power(1 + count), (1 + count) % 16 == 0, count == 0) for count in counts}


def fillings(counts: Iterable[int]) -> set[tuple[int, bool]]:
    """Kernels made of `_fill_logprob_token_ids_kernel`: by the block and for multiples of 16."""
    return {(power(count), (1 + count) % 16 == 0) for count in counts}


def test_every_kernel_of_log_probabilities_is_taken() -> None:
    asked = {params.logprobs for params in ON_GPUS.values() if params.logprobs is not None}
    assert softmaxes(asked) == softmaxes(range(LimitSettings().logprobs + 1))


def test_every_kernel_of_a_label_read_is_taken() -> None:
    read = {len(p.logprob_token_ids) for p in ON_GPUS.values() if p.logprob_token_ids}
    everything = range(1, MAX_READ_IDS + 1)
    assert softmaxes(read) == softmaxes(everything)
    assert fillings(read) == fillings(everything)


@pytest.mark.parametrize(
    "field",
    "presence_penalty frequency_penalty repetition_penalty min_p logit_bias allowed_token_ids "
    "min_tokens bad_words prompt_logprobs structured_outputs".split(),
)
def test_every_other_processor_is_taken(field: str) -> None:
    off = getattr(SamplingParams(), field)
    assert any(getattr(params, field) != off for params in ON_GPUS.values())
