"""Texts of log-probabilities' tokens beside those of the tokenizer itself."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, IncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessor

from service.vllm.fast.token_texts import keep_decoded, remembering

FEW = st.lists(st.integers(0, 49_200), max_size=6)
"""Token ids of the tokenizer, some beyond its vocabulary; one more than are remembered."""


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.mark.parametrize("clean", [False, True])
@given(lists=st.lists(FEW | st.lists(st.integers(0, 300), max_size=5), max_size=8))
def test_a_text_is_that_of_the_tokenizer(
    lists: list[list[int]], clean: bool, tokenizer: Any
) -> None:
    tokenizer.clean_up_tokenization_spaces = clean
    own = remembering(tokenizer)
    for ids in lists + lists:
        assert own.decode(ids) == tokenizer.decode(ids)
        assert own.decode(ids, skip_special_tokens=True) == tokenizer.decode(
            ids, skip_special_tokens=True
        )


@pytest.mark.parametrize("clean", [False, True])
def test_the_same_few_tokens_are_decoded_once(
    clean: bool, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[list[int]] = []

    class Counted:
        decoder = tokenizer._tokenizer.decoder
        model = tokenizer._tokenizer.model

        def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
            decoded.append(token_ids)
            return "text"

    monkeypatch.setattr(tokenizer, "clean_up_tokenization_spaces", clean)
    monkeypatch.setattr(tokenizer, "_tokenizer", Counted())
    own = remembering(tokenizer)
    assert [own.decode(ids) for ids in ([7], [1, 7], [7], (1, 7), [7])] == ["text"] * 5
    assert decoded == [[7], [1, 7]]


def test_vllm_streams_by_the_library_with_it(tokenizer: Any) -> None:
    processor = OutputProcessor(tokenizer, log_stats=False)
    keep_decoded(processor)
    params = SamplingParams(output_kind=RequestOutputKind.DELTA)
    request = EngineCoreRequest(
        request_id="a",
        prompt_token_ids=[1, 2],
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    made = IncrementalDetokenizer.from_new_request(processor.tokenizer, request)
    assert isinstance(made, FastIncrementalDetokenizer)


def test_an_engine_without_a_tokenizer_keeps_none() -> None:
    processor = OutputProcessor(None, log_stats=False)
    keep_decoded(processor)
    assert processor.tokenizer is None
