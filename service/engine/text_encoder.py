"""Text to token ids and back, quickly and on the caller's own thread."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from tokenizers import Tokenizer

TextEncoder = Callable[[str], list[int]]

TextDecoder = Callable[[Sequence[int]], str]

LONG = 4_096
"""Characters or tokens that are worth a pool of threads: some milliseconds."""


def text_encoder(tokenizer: Any, *, special_is_text: bool) -> TextEncoder:
    """An encoder that adds no special token; with `special_is_text` text never becomes one.

    It works on a copy: whether special tokens count is a state of a tokenizer, and the renderer's
    threads use theirs at the same time. transformers encodes even one text as a batch, for which
    the tokenizers library wakes a pool of threads; on a busy machine that takes longer than the
    encoding, so a fast tokenizer is asked directly.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):
        fast = fast_copy(tokenizer, special_is_text=special_is_text)
        return lambda text: fast_ids(fast, text)
    slow = deepcopy(tokenizer)
    return lambda text: list(
        slow.encode(text, add_special_tokens=False, split_special_tokens=special_is_text)
    )


def text_decoder(tokenizer: Any) -> TextDecoder:
    """A decoder that shows special tokens; LONG sequences let Python's other threads run."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or tokenizer.clean_up_tokenization_spaces:
        return lambda ids: str(tokenizer.decode(list(ids)))
    fast = deepcopy(backend)
    return lambda ids: _text(fast, list(ids))


def _text(fast: Tokenizer, ids: list[int]) -> str:
    if len(ids) < LONG:
        return fast.decode(ids, skip_special_tokens=False)
    (text,) = fast.decode_batch([ids], skip_special_tokens=False)
    return text


def fast_copy(tokenizer: Any, *, special_is_text: bool) -> Tokenizer:
    """A copy of the library's tokenizer in a fast one of transformers; it cuts and pads nothing."""
    fast: Tokenizer = deepcopy(tokenizer.backend_tokenizer)
    fast.encode_special_tokens = special_is_text
    fast.no_truncation()
    fast.no_padding()
    return fast


def fast_ids(fast: Tokenizer, text: str, *, add_special_tokens: bool = False) -> list[int]:
    """The ids of a text's tokens.

    A batch of one text stays on this thread, lets Python's other threads run meanwhile, and can be
    encoded without the places of its tokens in the text.
    """
    (encoding,) = fast.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return list(encoding.ids)
