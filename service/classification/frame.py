"""Prompts of one question: the instruction first, the input last, then the cue of the answer."""

from typing import Protocol

from service.engine.protocol import ChatFrame, Prompt

LEAD = "Text:"
"""Text before every input; the end of the shared part."""


class Tokeniser(Protocol):
    """The part of an engine that writes prompts."""

    @property
    def chat_frame(self) -> ChatFrame: ...

    @property
    def start_token_ids(self) -> tuple[int, ...]: ...

    def encode(self, text: str) -> list[int]: ...

    def encode_template(self, text: str) -> list[int]: ...


class PlainFrame:
    """A plain text around the input, without a chat template; both are data."""

    def __init__(self, tokeniser: Tokeniser, before: str, after: str) -> None:
        self.tail = after
        self._encode = tokeniser.encode
        self._before = before
        self._start = tokeniser.start_token_ids

    def prompt(self, text: str, query: str = "") -> Prompt:
        """The prompt of one input, with the `query`, if any, after it."""
        return Prompt([*self._start, *self._encode(f"{self._before}{text}{query}{self.tail}")])


class PromptFrame:
    """The chat template around a question, tokenised once; `prompt` adds an input to it.

    The `cue` ("Label:") ends the user's turn and begins the model's answer, whose label is read
    right after it. Only the template may hold special tokens: in question and input, text that
    looks like a special token stays text, so that no input ends its own turn. (An input can still
    make false claims, as any text can.)
    """

    def __init__(self, tokeniser: Tokeniser, question: str, cue: str) -> None:
        frame = tokeniser.chat_frame
        opening = frame.after and frame.after + cue
        self.tail = f"\n{cue}{opening}"
        """The prompt's text after the input, as `Seam.find` wants it."""
        self._encode = tokeniser.encode
        self._before = tokeniser.encode_template(frame.before)
        self._head = f"{question}\n{LEAD}"
        self._lead = tokeniser.encode(LEAD)
        self._shared = [*self._before, *tokeniser.encode(self._head)]
        if self._shared[len(self._before) :] == tokeniser.encode_template(self._head):
            # No text in the question looks like a special token: tokenise it in one piece.
            self._shared = tokeniser.encode_template(frame.before + self._head)
        if tokeniser.encode(self.tail) == tokeniser.encode_template(self.tail):
            self._closing, self._after = self.tail, list[int]()
        else:
            # A special token separates the answer from the input, and no token merges across it.
            self._closing, self._after = f"\n{cue}", tokeniser.encode_template(opening)

    def prompt(self, text: str, query: str = "") -> Prompt:
        """The prompt of one input, with a `query` about it after it."""
        rest = f" {text}{query}{self._closing}"
        ids = self._encode(LEAD + rest)
        if ids[: len(self._lead)] == self._lead:
            return Prompt([*self._shared, *ids[len(self._lead) :], *self._after])
        # The input's beginning merges with the lead, so no tokens can be shared.
        return Prompt([*self._before, *self._encode(self._head + rest), *self._after])
