"""Tokens whose text is a word."""

from collections.abc import Mapping

_MOST = 997
_STARTS = ("\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}", "\N{LOWER ONE EIGHTH BLOCK}")
"""Spaces before words, of byte-level and of SentencePiece tokenizers."""


def word_ids(vocabulary: Mapping[str, int]) -> list[int]:
    """Ids of words in ASCII letters with a space before them, the first ones of the vocabulary.

    Of a vocabulary without any, ids in its middle.
    """
    ids = sorted(
        number
        for token, number in vocabulary.items()
        if token[:1] in _STARTS and len(token) > 3 and token[1:].isascii() and token[1:].isalpha()
    )
    middle = len(vocabulary) // 2
    return ids[:_MOST] or [middle]
