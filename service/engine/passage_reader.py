"""Texts and pairs of texts to the tokens of an encoder."""

from copy import deepcopy
from typing import Any

from tokenizers import Encoding, Tokenizer

from service.engine.pooling import Passage
from service.engine.text_encoder import LONG


class PassageReader:
    """Tokenises by a model's own template; text never becomes a special token.

    With `truncate` a passage is cut to `limit` tokens: of a pair the longer text loses its end
    first. With `lower` text is put in lower case before. Raises ValueError for a tokenizer without
    `tokenizer.json`, which alone can do this.
    """

    def __init__(self, tokenizer: Any, limit: int, *, lower: bool = False) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ValueError("has no tokenizer.json, which the tokenizers library reads")
        self._whole = deepcopy(backend)
        self._whole.encode_special_tokens = True
        self._whole.no_truncation()
        self._whole.no_padding()
        self._cut = deepcopy(self._whole)
        self._cut.enable_truncation(limit)
        self._tells_apart = "token_type_ids" in tokenizer.model_input_names
        self._lower = lower

    def read(self, text: str, second: str | None = None, *, truncate: bool = False) -> Passage:
        """The tokens of a text or a pair, with the special ones of the model's template."""
        if self._lower:
            text, second = text.lower(), None if second is None else second.lower()
        encoding = _encoded(self._cut if truncate else self._whole, text, second)
        second_at = None
        if second is not None and self._tells_apart and 1 in encoding.type_ids:
            second_at = encoding.type_ids.index(1)
        return Passage(list(encoding.ids), second_at, cut=bool(encoding.overflowing))


def _encoded(tokenizer: Tokenizer, text: str, second: str | None) -> Encoding:
    if len(text) + len(second or "") < LONG:
        return tokenizer.encode(text, second)
    # Only a batch lets Python's other threads run meanwhile.
    (encoding,) = tokenizer.encode_batch([text if second is None else (text, second)])
    return encoding
