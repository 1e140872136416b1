"""Texts of log-probabilities' tokens, which are decoded once."""

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from service.vllm.fast.token_texts import byte_library

USES = ("replaces vllm.v1.engine.output_processor:OutputProcessor.tokenizer",)
"""What of vLLM this module stands on (docs/vllm.md)."""

_LONGEST = 5
"""Tokens that vLLM decodes together: one that ends within a character, and four before it."""
_KEPT = 1 << 15
"""Texts that are kept, of about 400 bytes each."""


def keep_decoded(processor: Any) -> None:
    """Have vLLM's output processor decode the same few tokens once.

    vLLM decodes each alternative of a log-probability by itself, which takes 5 us, and one that
    ends within a character up to ten times. In a prompt of such tokens this held the event loop for
    70 ms. A tokenizer that is not of the library `transformers` stays as it is.
    """
    if isinstance(processor.tokenizer, PreTrainedTokenizerBase):
        processor.tokenizer = remembering(processor.tokenizer)


def remembering(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer that remembers the texts of a few tokens."""
    decode = _decoder(tokenizer)

    @lru_cache(_KEPT)
    def kept(token_ids: tuple[int, ...]) -> str:
        return decode(list(token_ids))

    class Remembering(type(tokenizer)):  # type: ignore[misc]
        def decode(self, token_ids: Any, *args: Any, **options: Any) -> Any:
            few = isinstance(token_ids, Sequence) and len(token_ids) <= _LONGEST
            if args or options or not few:
                return tokenizer.decode(token_ids, *args, **options)
            return kept(tuple(token_ids))

    twin = copy.copy(tokenizer)
    twin.__class__ = Remembering
    return twin


def _decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """The tokenizer's own way to a text; where its tokens are bytes, a quarter of the time."""
    library = byte_library(tokenizer)
    if library is not None and not tokenizer.clean_up_tokenization_spaces:
        return partial(library.decode, skip_special_tokens=False)
    decode: Callable[[list[int]], str] = tokenizer.decode
    return decode
