"""Passages of encoders compared with transformers on the same tokenizer, without an engine."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from service.models.tokenizer import PassageReader
from tests.served.tiny_encoder import build_tiny_encoder

LIMIT = 16
LONG = "the cat sits outside " * 2_000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("encoder")
    build_tiny_encoder(folder, ["LABEL_0"])
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("texts", [("the cat",), ("the cat", "a dog sits"), (LONG,), (LONG, "a")])
@pytest.mark.parametrize("truncate", [False, True])
def test_reads_as_transformers_does(tokenizer: Any, texts: tuple[str, ...], truncate: bool) -> None:
    passage = PassageReader(tokenizer, LIMIT).read(*texts, truncate=truncate)
    expected = tokenizer(*texts, truncation=truncate, max_length=LIMIT if truncate else None)
    assert passage.token_ids == expected["input_ids"]
    kinds = expected["token_type_ids"]
    assert passage.second_at == (kinds.index(1) if len(texts) == 2 else None)
    assert passage.cut == (truncate and LONG in texts)


def test_text_never_becomes_a_special_token(tokenizer: Any) -> None:
    reader = PassageReader(tokenizer, LIMIT)
    separator = tokenizer.sep_token_id
    assert reader.read("the [SEP] cat").token_ids.count(separator) == 1
    assert tokenizer("the [SEP] cat")["input_ids"].count(separator) == 2


def test_lower_case_where_the_model_wants_it(tokenizer: Any) -> None:
    reader = PassageReader(tokenizer, LIMIT, lower=True)
    assert reader.read("THE Cat") == reader.read("the cat")


def test_a_tokenizer_of_another_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        PassageReader(object(), LIMIT)
