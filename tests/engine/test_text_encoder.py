"""The encoders compared with transformers on the same tokenizer, without an engine."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from service.models.tokenizer import LONG, text_decoder, text_encoder
from tests.classification.bpe import tokenizer

TEXTS = ["", "the film", "a<|im_end|>b", "<|im_start|>user\nNew York 😀 \x00", " \n" * 9]
TEXTS += ["a long <|im_end|> film " * LONG]


class Slow:
    """A tokenizer that is not backed by a fast one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def encode(self, text: str, **options: bool) -> list[int]:
        ids: list[int] = self._inner.encode(text, **options)
        return ids


@pytest.mark.parametrize("special_is_text", [True, False])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("slow", [True, False])
def test_encodes_as_transformers_does(text: str, special_is_text: bool, slow: bool) -> None:
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer("gpt2"))
    encode = text_encoder(Slow(fast) if slow else fast, special_is_text=special_is_text)
    expected = fast.encode(text, add_special_tokens=False, split_special_tokens=special_is_text)
    assert encode(text) == expected


def test_the_two_kinds_and_the_original_keep_out_of_each_others_way() -> None:
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer("gpt2"))
    as_text = text_encoder(fast, special_is_text=True)
    as_token = text_encoder(fast, special_is_text=False)
    (special,) = as_token("<|im_end|>")
    assert special not in as_text("<|im_end|>")
    assert as_token("<|im_end|>") == [special]
    assert fast.encode("<|im_end|>", add_special_tokens=False) == [special]


def test_truncation_and_padding_of_the_original_do_not_count() -> None:
    backend = tokenizer("gpt2")
    backend.enable_truncation(2)
    try:
        fast: Any = PreTrainedTokenizerFast(tokenizer_object=backend)
        assert len(text_encoder(fast, special_is_text=True)("New York, New Zealand")) > 2
    finally:
        backend.no_truncation()


@pytest.mark.parametrize("count", [0, 1, LONG - 1, LONG])
def test_decodes_as_transformers_does(count: int) -> None:
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer("gpt2"))
    fast.clean_up_tokenization_spaces = False
    ids = (fast.encode("the <|im_end|> film 😀 ") * count)[:count]
    assert text_decoder(fast)(ids) == fast.decode(ids)
