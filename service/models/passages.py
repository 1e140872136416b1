"""The tokens that an encoder reads for a text or a pair: in the model's template, cut if asked."""

from typing import Any

from tokenizers import Encoding, Tokenizer

from service.engine.pooling import Passage
from service.errors import InvalidRequest
from service.models.tokenizer import LONG, fast_copy


class PassageReader:
    """Tokenises by a model's own template; text never becomes a special token.

    With `lower` text is first put in lower case. Raises ValueError for a tokenizer without
    `tokenizer.json`: only tokenizers with one can do this.
    """

    def __init__(self, tokenizer: Any, *, lower: bool = False) -> None:
        if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
            raise ValueError("has no tokenizer.json, which the tokenizers library reads")
        self._library = fast_copy(tokenizer, special_is_text=True)
        self._tells_apart = "token_type_ids" in tokenizer.model_input_names
        self._lower = lower

    def read(self, text: str, second: str | None = None, *, most: int | None = None) -> Passage:
        """The tokens of a text or a pair, with the special ones of the model's template.

        They are cut to `most`: of a pair the longer text loses its end first. InvalidRequest for a
        number that leaves no room for text.
        """
        if self._lower:
            text, second = text.lower(), None if second is None else second.lower()
        if most is None:
            encoding = self._whole(text, second)
            return Passage(list(encoding.ids), self._second_at(encoding))
        return self._cut([text] if second is None else [text, second], most)

    def _whole(self, text: str, second: str | None) -> Encoding:
        if len(text) + len(second or "") < LONG:
            return self._library.encode(text, second)
        # Only a batch lets Python's other threads run meanwhile.
        return self._library.encode_batch([text if second is None else (text, second)])[0]

    def _second_at(self, encoding: Encoding) -> int | None:
        if encoding.n_sequences == 2 and self._tells_apart and 1 in encoding.type_ids:
            return encoding.type_ids.index(1)
        return None

    def _cut(self, texts: list[str], most: int) -> Passage:
        """The texts' tokens, `most` with the special ones.

        The library's own truncation keeps all that it cuts off, of a pair every combination of it:
        gigabytes for two long texts. So tokens are cut here, and stand where the model's template
        has those of a short text.
        """
        special = self._library.num_special_tokens_to_add(len(texts) == 2)
        if most < special + len(texts):
            raise InvalidRequest(
                f"texts are cut to {special + len(texts)} tokens or more, of which {special} are "
                f"special, got {most}"
            )
        parts = [part.ids for part in self._library.encode_batch(texts, add_special_tokens=False)]
        lengths = [len(part) for part in parts]
        kept = _shared(lengths, most - special)
        short = self._library.encode("a", "a" if len(texts) == 2 else None)
        ids: list[int] = []
        second_at, at = None, self._second_at(short)
        for place, text in enumerate(short.sequence_ids):
            if place == at:
                second_at = len(ids)
            if text is None:
                ids.append(short.ids[place])
            elif text not in short.sequence_ids[:place]:
                ids += parts[text][: kept[text]]
        return Passage(ids, second_at, cut=kept != lengths)


def _shared(lengths: list[int], room: int) -> list[int]:
    """How many tokens of each text fit into `room`; the longer one loses its end first."""
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    short = min(*lengths, room // 2)
    long = room - short
    return [short, long] if lengths[0] <= lengths[1] else [long, short]
