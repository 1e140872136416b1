"""Passages of encoders compared with transformers on the same tokenizer, without an engine."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from service.errors import InvalidRequest
from service.models.passages import PassageReader
from tests.served.tiny_encoder import build_tiny_encoder

LONG = "the cat sits outside " * 2_000
MIDDLE = "the cat sits outside " * 20
TEXTS = [
    *[("the cat",), ("the cat", "a dog sits"), (LONG,), (LONG, "a"), ("a", LONG)],
    *[("the cat sits", "a dog sits"), ("the cat sits outside", "the cat"), (MIDDLE, MIDDLE)],
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("encoder")
    build_tiny_encoder(folder, ["LABEL_0"])
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("most", [None, 5, 8, 9, 16])
def test_reads_as_transformers_does(
    tokenizer: Any, texts: tuple[str, ...], most: int | None
) -> None:
    passage = PassageReader(tokenizer).read(*texts, most=most)
    expected = tokenizer(*texts, truncation=most is not None, max_length=most)
    assert passage.token_ids == expected["input_ids"]
    kinds = expected["token_type_ids"]
    assert passage.second_at == (kinds.index(1) if len(texts) == 2 else None)
    whole = tokenizer(*texts)["input_ids"]
    assert passage.cut == (most is not None and len(whole) > most)


READ_TWO = """
import resource, sys
from transformers import AutoTokenizer
from service.models.passages import PassageReader
text = "the cat sits outside " * 5_000
reader = PassageReader(AutoTokenizer.from_pretrained(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(reader.read(text, text, most=16).token_ids))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_two_long_texts_are_cut_in_little_memory(tokenizer: Any) -> None:
    """The library's own truncation keeps every combination of what it cuts off: gigabytes."""
    command = [sys.executable, "-c", READ_TWO, tokenizer.name_or_path]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tokens, kilobytes = map(int, printed.split())
    assert tokens == 16
    assert kilobytes < 100_000


def test_a_cut_leaves_room_for_text(tokenizer: Any) -> None:
    reader = PassageReader(tokenizer)
    assert len(reader.read("the cat sits", most=3).token_ids) == 3
    with pytest.raises(InvalidRequest, match="cut to 3 tokens or more, of which 2 are special"):
        reader.read("the cat sits", most=2)
    with pytest.raises(InvalidRequest, match="cut to 5 tokens or more"):
        reader.read("the cat", "a dog", most=4)


def test_text_never_becomes_a_special_token(tokenizer: Any) -> None:
    reader = PassageReader(tokenizer)
    separator = tokenizer.sep_token_id
    assert reader.read("the [SEP] cat").token_ids.count(separator) == 1
    assert tokenizer("the [SEP] cat")["input_ids"].count(separator) == 2


def test_lower_case_where_the_model_wants_it(tokenizer: Any) -> None:
    reader = PassageReader(tokenizer, lower=True)
    assert reader.read("THE Cat") == reader.read("the cat")


def test_a_tokenizer_of_another_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        PassageReader(object())
