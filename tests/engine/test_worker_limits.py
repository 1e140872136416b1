"""Caps on requests, compared with what vLLM's worker on GPUs has room for: beyond it, it ends."""

import unicodedata
from typing import Any

import pytest
import vllm.envs
from pydantic import ValidationError
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, SamplingParams
from vllm.v1.worker.gpu.sample.logit_bias import (
    MAX_NUM_ALLOWED_TOKEN_IDS,
    MAX_NUM_LOGIT_BIAS_TOKENS,
    MAX_NUM_STOP_TOKEN_IDS,
)

from service.engine.contract import MAX_READ_IDS
from service.settings.limits import LimitSettings
from service.vllm.environment import BAD_WORDS_TOKENS

OWN_STOP_TOKENS = 8
"""Tokens that end an answer by the model's own configuration, at most."""


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("allowed_token_ids", MAX_NUM_ALLOWED_TOKEN_IDS),
        ("logit_bias", MAX_NUM_LOGIT_BIAS_TOKENS),
        ("stop_token_ids", MAX_NUM_STOP_TOKEN_IDS - OWN_STOP_TOKENS),
        # Each word is kept with a space before it and without.
        ("bad_words", vllm.envs.VLLM_MAX_NUM_BAD_WORDS // 2),
        ("bad_words_bytes", 512),
    ],
)
def test_no_setting_allows_more_than_the_worker_has_room_for(name: str, room: int) -> None:
    assert getattr(LimitSettings(), name) <= room
    LimitSettings.model_validate({name: room})
    with pytest.raises(ValidationError, match="less than or equal"):
        LimitSettings.model_validate({name: room + 1})


def test_a_label_read_fits() -> None:
    assert MAX_READ_IDS == MAX_LOGPROB_TOKEN_IDS


class ByteTokenizer:
    """One token a byte after NFKC: as many tokens as any tokenizer makes."""

    max_token_id = 255

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(unicodedata.normalize("NFKC", text).encode())


def longest_words() -> list[str]:
    """Words of 512 bytes, of the character that NFKC makes longest (one that is 3 bytes)."""
    count = LimitSettings().bad_words_bytes // len("\ufdfa".encode())
    return ["\ufdfa"] * (LimitSettings().bad_words - 1) + [
        "\ufdfa" * (count - LimitSettings().bad_words + 1)
    ]


def test_the_tokens_of_the_longest_bad_words_fit() -> None:
    longest = max(
        (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000),
        key=lambda c: len(unicodedata.normalize("NFKC", c).encode()) / len(c.encode()),
    )
    assert longest == "\ufdfa"
    params = SamplingParams(bad_words=longest_words())
    params.update_from_tokenizer(ByteTokenizer())
    words = params.bad_words_token_ids or []
    # The form with a space is kept only where it has as many tokens: count it for each.
    assert 2 * (sum(map(len, words)) + len(words)) <= BAD_WORDS_TOKENS
