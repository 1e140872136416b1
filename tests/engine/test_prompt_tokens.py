"""Tokens of prompts beside those of transformers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from service.context import enter_context, internal_context
from service.tenants.tenant import Tenant
from service.vllm.patches.prompt_tokens import PromptTokens

LONG = " The lamp was brighter, naïve and 日本 \U0001f600." * 20
PIECES = st.sampled_from(
    [LONG, "<|im_start|>", "<|im_end|>", "<|im_", "user\n", "\n", " ", "x", "<|endoftext|>"]
)
CHAT = f"<|im_start|>system\n{LONG}<|im_end|>\n<|im_start|>user\n"


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder)


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> PromptTokens:
    return PromptTokens(tokenizer)


@pytest.fixture(autouse=True)
def _request() -> None:
    enter_context(internal_context("tokens", 10))


@given(pieces=st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12), adds=st.booleans())
def test_the_tokens_are_those_of_transformers(
    pieces: list[str], adds: bool, tokenizer: Any, prompts: PromptTokens
) -> None:
    enter_context(internal_context("tokens", 10))
    text = "".join(pieces)
    for _ in range(2):  # the second time some come from those that were kept
        own = prompts.of(text, add_special_tokens=adds)
        assert list(own) == tokenizer(text, add_special_tokens=adds)["input_ids"]


def test_long_messages_are_encoded_once_for_a_tenant(prompts: PromptTokens) -> None:
    def misses() -> int:
        return int(prompts._kept.cache_info().misses)

    first = prompts.of(f"{CHAT}one", add_special_tokens=False)
    before = misses()
    assert prompts.of(f"{CHAT}two", add_special_tokens=False)[: len(first) - 1] == first[:-1]
    assert misses() == before
    other = internal_context("other", 10)
    other.tenant = Tenant("other")
    enter_context(other)
    prompts.of(f"{CHAT}two", add_special_tokens=False)
    assert misses() == before + 1


def test_nothing_is_split_at_tokens_that_take_spaces_with_them(smollm2_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    prompts, text = PromptTokens(tokenizer), f"{CHAT}a <mask> b"
    own = prompts.of(text, add_special_tokens=False)
    assert list(own) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompts._kept.cache_info().currsize == 0


def test_a_very_long_prompt_is_not_split(tokenizer: Any) -> None:
    prompts, text = PromptTokens(tokenizer), CHAT * 200
    own = prompts.of(text, add_special_tokens=False)
    assert list(own) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompts._kept.cache_info().currsize == 0


def test_a_tokenizer_with_an_encoding_of_its_own_stays_with_vllm() -> None:
    renderer = SimpleNamespace(get_tokenizer=lambda: object(), _tokenize_prompt=len)
    assert PromptTokens.serve(renderer) is None
    assert renderer._tokenize_prompt is len
