"""Labels as token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.adapters.manifest import MAX_LABELS
from service.errors import InvalidRequest

_SHOWN = 60

Encode = Callable[[str], Sequence[int]]
"""Text to token ids, adding no special token of its own (no BOS, no EOS)."""


@dataclass(frozen=True, slots=True)
class Label:
    """A public name and the token ids that the model says for it, right after the prompt."""

    name: str
    token_ids: tuple[int, ...]


def read_labels(
    encode: Encode, prompt: str, words: Sequence[tuple[str, str]], *, max_tokens: int
) -> tuple[Label, ...]:
    """Tokenise every label at its place: directly after `prompt`.

    `words` pairs each public name with the text the model says. A label's ids are what
    `encode(prompt + text)` adds to `encode(prompt)`; the text is never tokenised alone, because
    tokenizers treat the start of a text in their own way. `prompt` may be the whole prompt or
    the short stand-in that `Seam.context` offers.

    Raises InvalidRequest, naming the label and the reason, for no labels or more than MAX_LABELS,
    a blank name, a label of no tokens or of more than `max_tokens`, and a label that changes the
    tokens of the prompt (a merge across the seam: the model would be asked to continue from
    tokens that never precede this label in text).
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
    """Number of tokens that two sequences have in common before they first differ."""
    pairs = zip(first, second, strict=False)
    differing = (at for at, (one, other) in enumerate(pairs) if one != other)
    return next(differing, min(len(first), len(second)))


def refused(reason: str) -> InvalidRequest:
    """The refusal of a label set, in the name of the request field that carries it."""
    return InvalidRequest(f"candidate_labels: {reason}.", param="candidate_labels")


def shown(text: str) -> str:
    """`text` quoted for a message and cut to a length that fits into a log line."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
