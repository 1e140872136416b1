"""Texts with an exact number of tokens, by a model's own tokenizer."""

from pathlib import Path

from tokenizers import Tokenizer

_TRIES = 64


class Exact:
    """Fits texts to lengths; `folder` holds the model's tokenizer.json.

    It counts the tokens of a message's text, without those of the chat template around the text.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def fit(self, text: str, tokens: int) -> str:
        """Remove or add words at the text's end until it has so many tokens.

        Raises ValueError if 64 attempts do not reach the number with this tokenizer.
        """
        words = text.split(" ")
        for attempt in range(_TRIES):
            over = self.count(" ".join(words)) - tokens
            if over == 0:
                return " ".join(words)
            if over > 0:
                del words[-max(1, over // 3) :]
            else:
                words += ["the" if attempt % 2 else "a"] * max(1, -over // 2)
        raise ValueError(f"no text of exactly {tokens} tokens was found with this tokenizer")
