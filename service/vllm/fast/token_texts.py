"""Caches of the texts of tokens, for detokenisation and for log-probabilities."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from tokenizers import decoders
from transformers import PreTrainedTokenizerBase

USES = ("replaces vllm.v1.engine.output_processor:OutputProcessor.tokenizer",)

_Library = decoders.DecodeStream
_PART = "\N{REPLACEMENT CHARACTER}"


class _Texts(dict[int, str | None]):
    """The text of each token; None for a token that begins or ends within a character."""

    def __init__(self, tokenizer: Any, *, skip: bool) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._skip = skip

    def __missing__(self, token_id: int) -> str | None:
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=self._skip)
        self[token_id] = kept = None if _PART in text else text
        return kept


class TextStream:
    """Replaces the library's `DecodeStream` for byte-level decoders.

    The library decodes the whole prompt at the first token, and some tokens twice at every step.
    Tokens of a byte-level decoder are bytes, so a token of whole characters always adds the same
    text, which can be cached. If a token ends within a character, the library's own stream decodes
    until the character is complete.
    """

    def __init__(
        self,
        texts: Mapping[bool, Mapping[int, str | None]],
        ids: Sequence[int] | None = None,
        skip_special_tokens: bool = False,
    ) -> None:
        self._texts = texts[skip_special_tokens]
        self._skip = skip_special_tokens
        self._parts: Any = None
        if _ends_within(ids or (), self._texts):
            self._parts = _Library(ids=ids, skip_special_tokens=self._skip)

    def step(self, tokenizer: Any, token_id: int) -> str | None:
        """The text that a token adds; None until its character is complete."""
        if self._parts is None:
            text = self._texts[token_id]
            if text is not None:
                return text or None
            self._parts = _Library(skip_special_tokens=self._skip)
        made: str | None = self._parts.step(tokenizer, token_id)
        if made is not None:
            self._parts = None
        return made

    def text(self, tokenizer: Any, token_ids: Sequence[int]) -> str:
        """The text that tokens add."""
        if self._parts is None and len(token_ids) == 1 and (known := self._texts[token_ids[0]]):
            return known
        return "".join(self.step(tokenizer, each) or "" for each in token_ids)


def _ends_within(ids: Sequence[int], texts: Mapping[int, str | None]) -> bool:
    """True if the last token with a text ends within a character."""
    last = next((text for each in reversed(ids) if (text := texts[each]) != ""), "")
    return last is None


def keep_texts(tokenizer: Any) -> None:
    """Have vLLM's detokenizers use cached texts of tokens, if the decoder is byte-level.

    vLLM looks up the library's class for each request, so the class is replaced. The replacement
    serves the tokenizer of the last call, since a process has one language model; other tokenizers
    get the library's own class.
    """
    library = byte_library(tokenizer)
    own = _Library if library is None else text_stream(library)
    decoders.DecodeStream = own  # type: ignore[misc, assignment]


def byte_library(tokenizer: Any) -> Any:
    """The `tokenizers` object within one of `transformers`, if its tokens are bytes; else None."""
    library = getattr(tokenizer, "_tokenizer", None)
    return library if isinstance(getattr(library, "decoder", None), decoders.ByteLevel) else None


def text_stream(tokenizer: Any) -> Callable[..., TextStream]:
    """The `DecodeStream` for a byte-level tokenizer of the `tokenizers` library."""
    texts = {skip: _Texts(tokenizer, skip=skip) for skip in (False, True)}
    return partial(TextStream, texts)


_LONGEST = 5
"""Most tokens that vLLM decodes together: one that ends within a character, and four before."""
_KEPT = 1 << 15
"""Texts that are kept, of about 400 bytes each."""


def keep_decoded(processor: Any) -> None:
    """Have vLLM's output processor cache the decoded texts of short token sequences.

    For log-probabilities vLLM decodes every alternative token separately, which takes 5 us, and up
    to ten times that if the token ends within a character. With a prompt of such tokens this
    blocked the event loop for 70 ms. Tokenizers that are not from `transformers` are left
    unchanged.
    """
    if isinstance(processor.tokenizer, PreTrainedTokenizerBase):
        processor.tokenizer = remembering(processor.tokenizer)


def remembering(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer that caches the decoded texts of short token sequences."""
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

    # copy.copy would make vLLM's kind of tokenizer list the whole vocabulary again.
    twin: PreTrainedTokenizerBase = Remembering.__new__(Remembering)
    vars(twin).update(vars(tokenizer))
    return twin


def _decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    """The fastest function that decodes tokens: a quarter of the time for a byte-level decoder."""
    library = byte_library(tokenizer)
    if library is not None and not tokenizer.clean_up_tokenization_spaces:
        return partial(library.decode, skip_special_tokens=False)
    decode: Callable[[list[int]], str] = tokenizer.decode
    return decode
