"""The seam between a prompt and the label after it.

Token ids of prompt and label are joined, and must equal the tokens of the joined text. This is
checked once per template and label set, not per input, because only the template's last words
decide it: a tokenizer that splits text into words before it merges (byte-level BPE, WordPiece,
SentencePiece with whitespace splitting) lets a label change at most the tokens of the word it is
attached to. So if

1. the template's last word has the same tokens whatever text precedes the template's tail (its
   text after the input), and
2. after one such text the label leaves those tokens as they are (`read_labels`),

then after every prompt that ends with those tokens (`Seam.joins`) the label is read the same way.
For another kind of tokenizer give `read_labels` the whole prompt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.classification.label import Encode, shared_tokens, shown
from service.errors import InvalidRequest

_ENDINGS = ("a", "1", ".", "'", '"', "-", ")", " ", "\n", "\t", "é", "中", "😀")
"""Endings of inputs: one of every kind that tokenizers' splitting rules distinguish."""


@dataclass(frozen=True, slots=True)
class Seam:
    """The place where labels begin, for every prompt of one template."""

    context: str
    """A short text that ends as every prompt does; the `prompt` to give to `read_labels`."""

    token_ids: tuple[int, ...]
    """The tokens of the template's last word, with which every prompt must end."""

    @classmethod
    def find(cls, encode: Encode, tail: str) -> "Seam":
        """The seam of the template whose text after the input is `tail`.

        Raises InvalidRequest when the tail holds no word, or when its last word's tokens depend on
        how the input ends, because then the labels' tokens would too.
        """
        last = re.search(r"\S+\s*\Z", tail)
        if last is None:
            raise _refused(tail, "needs a word after the input, or the label would touch the input")
        whole = [tuple(encode(ending + tail)) for ending in _ENDINGS]
        before = encode(_ENDINGS[0] + tail[: last.start()])
        size = max(1, len(whole[0]) - shared_tokens(whole[0], before))
        # Equal tokens spell equal text, so after every ending they are this same last word.
        if len({ids[-size:] for ids in whole}) > 1:
            raise _refused(tail, "merges with the end of the input: begin it with a newline")
        return cls(_ENDINGS[0] + tail, whole[0][-size:])

    def joins(self, prompt_token_ids: Sequence[int]) -> bool:
        """True if labels read at this seam may be appended to this prompt."""
        return tuple(prompt_token_ids[-len(self.token_ids) :]) == self.token_ids


def spell(name: str, tail: str) -> str:
    """The text of a label known only by its name, after a prompt ending in `tail`.

    One space separates the name from a word before it, as in written text and as tokenizers expect
    (" positive" is one token where "positive" may be three). After white space, as in a chat
    template that ends in a newline, or if it begins with some, the name is used unchanged.
    """
    separated = not tail or tail[-1].isspace() or name[:1].isspace()
    return name if separated else f" {name}"


def _refused(tail: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"prompt template: its end {shown(tail)} {reason}.", param="template")
