"""The caps on texts, pairs and embeddings of an encoder, at their edges."""

import pytest

from service.errors import InvalidRequest
from service.limits.caps import check_entries, check_text, check_values
from service.settings.limits import LimitSettings

LIMITS = LimitSettings(encoder_input_bytes=4, embedding_values=12)


def test_what_is_within_the_caps_passes() -> None:
    for text in ("a", "éé", "\ud800"):
        check_text(text, "query", LIMITS)
    check_values(3, 4, "input", LIMITS)
    for count in (1, 2):
        check_entries(count, 2, "texts", "texts")


@pytest.mark.parametrize(("text", "size"), [("", 0), ("ééa", 5)])
@pytest.mark.parametrize(("place", "param"), [("texts[2]", "texts"), ("query", "query")])
def test_a_text_is_not_empty_and_no_longer_than_its_bytes(
    text: str, size: int, place: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"1\.\.4 bytes, got {size}$") as refused:
        check_text(text, place, LIMITS)
    assert refused.value.message.startswith(f"{place}: ")
    assert refused.value.param == param


def test_embeddings_hold_no_more_numbers_than_the_settings_say() -> None:
    with pytest.raises(InvalidRequest, match="at most 12 numbers, got 7 texts of 2") as refused:
        check_values(7, 2, "input", LIMITS)
    assert refused.value.param == "input"


@pytest.mark.parametrize("count", [0, 3])
def test_a_list_holds_at_least_one_entry_and_at_most_its_cap(count: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"^texts: 1\.\.2 pairs, got {count}$") as refused:
        check_entries(count, 2, "texts", "pairs")
    assert refused.value.param == "texts"
