"""Prompts of classifiers, and the labels after them as token ids.

Token ids of prompt and label are joined, and must equal the tokens of the joined text. This is
checked once per template and label set, not per input, because only the template's last words
decide it: a tokenizer that splits text into words before it merges (byte-level BPE, WordPiece,
SentencePiece with whitespace splitting) lets a label change at most the tokens of the word it is
attached to. So if

1. the template's last word has the same tokens whatever text precedes the template's tail (its
   text after the input), and
2. after one such text the label leaves those tokens as they are (`read_labels`),

then the label has the same tokens after every prompt that ends with those of the last word
(`TokenBoundary.joins`). For another kind of tokenizer give `read_labels` the whole prompt.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.engine.contract import MAX_LABELS
from service.engine.texts import ChatFrame, LabelEngine, Vocabulary, size_of
from service.errors import InvalidRequest

_SHOWN = 60

Encode = Callable[[str], Sequence[int]]
"""Text to token ids, adding no special token of its own (no BOS, no EOS)."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label's public name, and its token ids right after the prompt."""

    name: str
    token_ids: tuple[int, ...]


def read_labels(
    encode: Encode, prompt: str, words: Sequence[tuple[str, str]], *, max_tokens: int
) -> tuple[Label, ...]:
    """Tokenise every label at its place: directly after `prompt`.

    `words` pairs each public name with the text the model says. A label's ids are what
    `encode(prompt + text)` adds to `encode(prompt)`; the text is never tokenised alone, because
    tokenizers treat the start of a text in their own way. `prompt` may be the whole prompt or the
    short stand-in that `TokenBoundary.context` offers.

    Raises InvalidRequest, naming the label and the reason, for no labels or more than MAX_LABELS, a
    blank name, a label of no tokens or of more than `max_tokens`, and a label that changes the
    tokens of the prompt. Such a label merges with the prompt's last token, so in real text it never
    follows the prompt's own tokens.
    """
    if not 1 <= len(words) <= MAX_LABELS:
        raise refused(f"{len(words)} labels given; the limits are 1 and {MAX_LABELS}")
    start = tuple(encode(prompt))
    labels = []
    for name, text in words:
        if not name.strip():
            raise refused(f"label {shown(name)} is blank")
        ids = tuple(encode(prompt + text))
        if ids[: len(start)] != start:
            raise refused(
                f"label {shown(name)} cannot be read: its text {shown(text)} merges with the end "
                f"of the prompt, {shown(prompt[-20:])}, into other tokens"
            )
        label = Label(name, ids[len(start) :])
        if not label.token_ids:
            raise refused(f"label {shown(name)} cannot be read: {shown(text)} has no tokens")
        if len(label.token_ids) > max_tokens:
            raise refused(
                f"label {shown(name)} has {len(label.token_ids)} tokens; the limit is {max_tokens}"
            )
        labels.append(label)
    return tuple(labels)


def shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix of two token sequences."""
    pairs = zip(first, second, strict=False)
    differing = (at for at, (one, other) in enumerate(pairs) if one != other)
    return next(differing, min(len(first), len(second)))


def refused(reason: str) -> InvalidRequest:
    """The InvalidRequest for a label set; `param` is the request's field of labels."""
    return InvalidRequest(f"candidate_labels: {reason}.", param="candidate_labels")


def shown(text: str) -> str:
    """`text` quoted for a message and cut to a length that fits into a log line."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


_ENDINGS = ("a", "1", ".", "'", '"', "-", ")", " ", "\n", "\t", "é", "中", "😀")
"""Endings of inputs: one of every kind that tokenizers' splitting rules distinguish."""


@dataclass(frozen=True, slots=True)
class TokenBoundary:
    """The place in every prompt of one template where labels begin."""

    context: str
    """A short text that ends as every prompt does; the `prompt` to give to `read_labels`."""

    token_ids: tuple[int, ...]
    """The tokens of the template's last word, with which every prompt must end."""

    @classmethod
    def find(cls, encode: Encode, tail: str) -> "TokenBoundary":
        """The boundary of the template whose text after the input is `tail`.

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
        """True if labels tokenised at this boundary may be appended to this prompt."""
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


_COUNTED = 4096
"""Size in bytes from which an input's tokens are counted before its prompts are written."""


async def check_length(text: str, engine: LabelEngine) -> None:
    """Raise InvalidRequest for a text that by itself is longer than the model's context.

    A text of more characters than its tokens could hold is refused without tokenising it; the
    tokens of another long text are counted. So a text that is too long is found before the prompts
    of many labels are built.
    """
    limit = engine.model.max_model_len
    most = limit * engine.model.max_token_chars
    if len(text) > most:
        raise _too_long(f"{len(text)} characters", f"{limit} tokens, which hold at most {most}")
    size = size_of(text)
    if size >= _COUNTED:
        tokens = await engine.prepare(size, lambda: len(engine.encode(text)))
        if tokens > limit:
            raise _too_long(f"{tokens} tokens", f"{limit}")


def _too_long(size: str, limit: str) -> InvalidRequest:
    return InvalidRequest(
        f"input: {size} are more than the model's context of {limit}",
        code="context_length_exceeded",
        param="input",
    )


LEAD = "Text:"
"""Text before every input; the end of the shared part."""


class PlainFrame:
    """A plain text around the input, without a chat template; no text becomes a special token."""

    def __init__(self, vocabulary: Vocabulary, before: str, after: str) -> None:
        self.tail = after
        self._encode = vocabulary.encode
        self._before = before
        self._start = vocabulary.start_token_ids

    def prompt(self, text: str, query: str = "") -> list[int]:
        """The prompt of one input, followed by the `query`, if any."""
        return [*self._start, *self._encode(f"{self._before}{text}{query}{self.tail}")]


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
        """The prompt's text after the input, as `TokenBoundary.find` wants it."""
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

    def prompt(self, text: str, query: str = "") -> list[int]:
        """The prompt of one input, followed by the `query`, if any."""
        return [*self._begun(f" {text}{query}{self._closing}"), *self._after]

    def begin(self, text: str, query: str) -> list[int]:
        """The prompt of one input up to the `query`, with which several questions begin."""
        return self._begun(f" {text}{query}")

    def finish(self, begun: TokenBoundary, rest: str) -> list[int]:
        """The tokens of a prompt after what `begin` gave, whose query ends at the boundary.

        The rest begins with a space, so it changes no token before it.
        """
        context = self._encode(begun.context)
        ids = self._encode(f"{begun.context}{rest}{self._closing}")
        if ids[: len(context)] != context:
            raise _refused(begun.context, "merges with what follows it")
        return [*ids[len(context) :], *self._after]

    def _begun(self, rest: str) -> list[int]:
        ids = self._encode(LEAD + rest)
        if ids[: len(self._lead)] == self._lead:
            return [*self._shared, *ids[len(self._lead) :]]
        # The input's beginning merges with the lead, so no tokens can be shared.
        return [*self._before, *self._encode(self._head + rest)]
