"""Prompts of one question: the instruction first, the input last, then the cue of the answer."""

from service.engine.protocol import ChatFrame, Prompt, Vocabulary

LEAD = "Text:"
"""Text before every input; the end of the shared part."""


class PlainFrame:
    """A plain text around the input, without a chat template; no text becomes a special token."""

    def __init__(self, vocabulary: Vocabulary, before: str, after: str) -> None:
        self.tail = after
        self._encode = vocabulary.encode
        self._before = before
        self._start = vocabulary.start_token_ids

    def prompt(self, text: str, query: str = "") -> Prompt:
        """The prompt of one input, followed by the `query`, if any."""
        return Prompt([*self._start, *self._encode(f"{self._before}{text}{query}{self.tail}")])


class PromptFrame:
    """The chat template around a question, tokenised once; `prompt` adds an input to it.

    The `cue` ("Label:") ends the user's turn and begins the model's answer, whose label is read
    right after it. Only the template may hold special tokens: in question and input, text that
    looks like a special token stays text, so that no input ends its own turn. (An input can still
    make false claims, as any text can.)
    """

    def __init__(self, vocabulary: Vocabulary, frame: ChatFrame, question: str, cue: str) -> None:
        opening = frame.after and frame.after + cue
        self.tail = f"\n{cue}{opening}"
        """The prompt's text after the input, as `Seam.find` wants it."""
        self._encode = vocabulary.encode
        self._before = vocabulary.encode_template(frame.before)
        self._head = f"{question}\n{LEAD}"
        self._lead = vocabulary.encode(LEAD)
        self._shared = [*self._before, *vocabulary.encode(self._head)]
        if self._shared[len(self._before) :] == vocabulary.encode_template(self._head):
            # Nothing in the question looks special: take the tokens of the text in one piece.
            self._shared = vocabulary.encode_template(frame.before + self._head)
        if vocabulary.encode(self.tail) == vocabulary.encode_template(self.tail):
            self._closing, self._after = self.tail, list[int]()
        else:
            # A special token stands between input and answer, and no tokens merge across it.
            self._closing, self._after = f"\n{cue}", vocabulary.encode_template(opening)

    def prompt(self, text: str, query: str = "") -> Prompt:
        """The prompt of one input, followed by the `query`, if any."""
        rest = f" {text}{query}{self._closing}"
        ids = self._encode(LEAD + rest)
        if ids[: len(self._lead)] == self._lead:
            return Prompt([*self._shared, *ids[len(self._lead) :], *self._after])
        # The input's beginning merges with the lead, so no tokens can be shared.
        return Prompt([*self._before, *self._encode(self._head + rest), *self._after])
