"""Batches of label reads and ordinary rows: each row gets what vLLM's sampler gives it alone."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

from service.vllm.patches.rows import RowSampler

VOCABULARY = 997
MOST = 20

Row = int | None | tuple[int, ...]
"""The number of alternatives that a request asks for, None for none; or the tokens it names."""

rows = st.lists(
    st.none()
    | st.integers(0, MOST)
    | st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30, unique=True).map(tuple),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module", autouse=True)
def _eager() -> Any:
    # vLLM compiles the count of a token's rank, with a C++ compiler, for seconds.
    with torch.compiler.set_stance("force_eager"):
        yield


def metadata(batch: list[Row]) -> SamplingMetadata:
    """State of vLLM's InputBatch for greedy requests that ask for these log-probabilities."""
    counts = [row for row in batch if isinstance(row, int)]
    labels = {index: list(row) for index, row in enumerate(batch) if isinstance(row, tuple)}
    nothing = torch.zeros(len(batch))
    return SamplingMetadata(
        temperature=None,
        all_greedy=True,
        all_random=False,
        top_p=None,
        top_k=None,
        generators={},
        max_num_logprobs=max(counts, default=None),
        logprob_token_ids=labels or None,
        no_penalties=True,
        prompt_token_ids=None,
        frequency_penalties=nothing,
        presence_penalties=nothing,
        repetition_penalties=nothing,
        output_token_ids=[],
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=LogitsProcessors(),
    )


@dataclass(frozen=True)
class Answer:
    """A row as vLLM's LogprobsProcessor reads it: only as many columns as the request asked for."""

    token: int
    rank: int | None
    logprobs: list[tuple[int, float]] | None


def sample(sampler: Sampler, logits: torch.Tensor, batch: list[Row]) -> list[Answer]:
    output = sampler(logits.clone(), metadata(batch))
    tensors = output.logprobs_tensors
    answers = []
    for index, row in enumerate(batch):
        token = int(output.sampled_token_ids[index, 0])
        if row is None:
            answers.append(Answer(token, None, None))
            continue
        columns = 1 + (row if isinstance(row, int) else len(row))
        pairs = zip(
            tensors.logprob_token_ids[index].tolist(), tensors.logprobs[index].tolist(), strict=True
        )
        rank = int(tensors.selected_token_ranks[index])
        answers.append(Answer(token, rank, list(pairs)[:columns]))
    return answers


def logits_of(count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(count, VOCABULARY, generator=torch.Generator().manual_seed(count)).to(dtype)


def row_sampler() -> RowSampler:
    return RowSampler(Sampler(), MOST)


@given(rows)
def test_a_row_gets_what_it_gets_alone(batch: list[Row]) -> None:
    logits = logits_of(len(batch), torch.float32)

    together = sample(row_sampler(), logits, batch)

    alone = [
        sample(Sampler(), logits[index : index + 1], [row])[0] for index, row in enumerate(batch)
    ]
    assert together == alone


@given(rows)
def test_ties_are_broken_as_in_a_batch_of_one(batch: list[Row]) -> None:
    # 997 logits of bfloat16 in a narrow range: nearly all have an equal one.
    logits = logits_of(len(batch), torch.bfloat16)

    together = sample(row_sampler(), logits, batch)

    alone = [
        sample(row_sampler(), logits[index : index + 1], [row])[0]
        for index, row in enumerate(batch)
    ]
    assert together == alone


@pytest.mark.parametrize("mode", ["raw_logprobs", "raw_logits", "processed_logprobs"])
def test_every_mode_of_vllms_is_kept(mode: Any) -> None:
    batch: list[Row] = [5, (1, 2, 3), None]
    logits = logits_of(3, torch.float32)

    together = sample(RowSampler(Sampler(mode), MOST), logits, batch)

    assert together == [
        sample(Sampler(mode), logits[index : index + 1], [row])[0]
        for index, row in enumerate(batch)
    ]


def test_a_request_may_ask_for_the_whole_vocabulary() -> None:
    logits = logits_of(2, torch.float32)

    whole, labels = sample(RowSampler(Sampler(), -1), logits, [VOCABULARY, (7,)])

    assert whole.logprobs is not None
    assert len(whole.logprobs) == 1 + VOCABULARY
    assert labels == sample(Sampler(), logits[1:], [(7,)])[0]


def test_what_speculation_asks_for_is_vllms_own() -> None:
    logits = logits_of(2, torch.float32)
    asked = replace(metadata([5, 5]), max_num_logprobs=-1)

    ours, theirs = (each(logits.clone(), asked) for each in (row_sampler(), Sampler()))

    assert torch.equal(ours.logprobs_tensors.logprobs, theirs.logprobs_tensors.logprobs)


def test_vllm_answers_a_batch_with_a_label_read_with_its_labels_alone() -> None:
    """Fails once vLLM is right: then the sampler and the ADR's first half can go."""
    logits = logits_of(2, torch.float32)

    answer, _ = sample(Sampler(), logits, [5, (1, 2, 3)])

    assert answer.logprobs is not None
    assert [logprob for _, logprob in answer.logprobs[1:]] == [-torch.inf] * 3
