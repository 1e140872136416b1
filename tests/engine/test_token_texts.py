"""Texts of tokens beside those of the library's own stream."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from transformers import AutoTokenizer

from service.vllm.fast.token_texts import TextStream, _Library, keep_texts, text_stream

WORDS = "Zähle: \u00e9, \U0001f600\U0001f468\u200d\U0001f469 日本 naïve <|im_start|>\n  x\ufffd"


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def ids(tokenizer: Tokenizer) -> list[int]:
    """Tokens of whole characters, of parts of characters, and special ones."""
    return [*range(300), *tokenizer.encode(WORDS).ids, tokenizer.get_vocab_size() + 5]


@given(data=st.data(), skip=st.booleans())
def test_a_text_stream_gives_what_the_library_gives(
    data: st.DataObject, skip: bool, tokenizer: Tokenizer, ids: list[int]
) -> None:
    tokens = st.lists(st.sampled_from(ids), max_size=12)
    prompt, answer = data.draw(tokens), data.draw(tokens)
    own = text_stream(tokenizer)(ids=prompt, skip_special_tokens=skip)
    library = _Library(ids=prompt, skip_special_tokens=skip)
    assert isinstance(own, TextStream)
    for each in answer:
        assert own.step(tokenizer, each) == library.step(tokenizer, each)


@given(text=st.text())
def test_a_text_comes_back_as_the_library_gives_it(text: str, tokenizer: Tokenizer) -> None:
    own, library = text_stream(tokenizer)(), _Library()
    encoded = tokenizer.encode(f"{text}.", add_special_tokens=False).ids
    for each in encoded:
        assert own.step(tokenizer, each) == library.step(tokenizer, each)


def test_vllm_finds_the_stream_for_tokens_that_are_bytes_alone(
    smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "DecodeStream", _Library)
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    bytelevel, tokenizer._tokenizer.decoder = tokenizer._tokenizer.decoder, decoders.Metaspace()
    keep_texts(tokenizer)
    assert decoders.DecodeStream is _Library
    tokenizer._tokenizer.decoder = bytelevel
    keep_texts(tokenizer)
    stream: Any = decoders.DecodeStream
    assert isinstance(stream(ids=[1, 2], skip_special_tokens=True), TextStream)
    tokenizer._tokenizer.decoder = decoders.Metaspace()
    keep_texts(tokenizer)
    assert decoders.DecodeStream is _Library
