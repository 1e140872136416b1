"""Lines that are too long: cut, dropped or refused for training, refused for measuring."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import AutoConfig

from service.errors import ConfigurationError
from training.config import FinetuneSettings
from training.example import Example
from training.lines import LabelledLine, Line, MultiLabelledLine


class LineEncoder(Protocol):
    """Makes the examples of a run from its lines."""

    def encode(self, lines: Sequence[Line]) -> list[Example]:
        """All examples of the lines."""

    def tokens(self, line: Line) -> int:
        """Tokens of the line's longest example, prompt and answer together."""

    def asked_tokens(self, line: Line) -> int:
        """Tokens of context that measuring the line takes."""

    def without_end(self, text: str, tokens: int) -> str:
        """The text without its last tokens; empty if it has no more."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Lines within data.max_tokens, and the number of lines that were dropped or cut."""

    lines: Sequence[Line]
    dropped: int
    truncated: int


def fit(lines: Sequence[Line], encoder: LineEncoder, settings: FinetuneSettings) -> Fitted:
    """The lines, with over-long ones dropped or cut by the policy of `data.over_long`.

    ConfigurationError for over-long lines under `refuse`, and when no line is left.
    """
    limit, policy = settings.data.max_tokens, settings.data.over_long
    kept: list[Line] = []
    over_long: list[tuple[Line, int]] = []
    for line in lines:
        tokens = encoder.tokens(line)
        if tokens <= limit:
            kept.append(line)
            continue
        over_long.append((line, tokens))
        if policy == "truncate":
            kept.append(_shortened(line, tokens, limit, encoder))
    count = len(over_long)
    if over_long and policy == "refuse":
        worst, tokens = max(over_long, key=lambda each: each[1])
        raise ConfigurationError(
            f"{worst.place}: {tokens} tokens with its prompt and answer, the longest of {count} of "
            f"{len(lines)} lines that have more than data.max_tokens {limit}; raise the limit or "
            "choose data.over_long"
        )
    if not kept:
        first, tokens = over_long[0]
        raise ConfigurationError(
            f"{first.place}: {tokens} tokens; all of {count} lines have more than data.max_tokens "
            f"{limit}, and data.over_long {policy} leaves none"
        )
    return Fitted(
        kept,
        dropped=count if policy == "drop" else 0,
        truncated=count if policy == "truncate" else 0,
    )


def _shortened(line: Line, tokens: int, limit: int, encoder: LineEncoder) -> Line:
    """A line with its text cut at the end so that its longest example fits."""
    assert isinstance(line, LabelledLine | MultiLabelledLine)
    cut = tokens - limit
    while text := encoder.without_end(line.text, cut):
        shorter = line.model_copy(update={"text": text})
        if encoder.tokens(shorter) <= limit:
            return shorter
        cut += 1  # half a character, or other tokens at the new seam
    raise ConfigurationError(
        f"{line.place}: data.max_tokens: {limit} leaves no room for a text beside the prompt"
    )


def check_context(lines: Iterable[Line], encoder: LineEncoder, settings: FinetuneSettings) -> None:
    """Raise ConfigurationError for a line that is too long for the engine at measuring."""
    limit = _context(settings)
    answer = settings.evaluation.max_tokens
    for line in lines:
        tokens = encoder.asked_tokens(line)
        if tokens > limit:
            what, lower = (
                ("labels", f"data.max_tokens {settings.data.max_tokens}")
                if settings.task == "classification"
                else (f"answer of {answer}", f"evaluation.max_tokens {answer}")
            )
            raise ConfigurationError(
                f"{line.place}: {tokens} tokens with its prompt and {what} are more than the "
                f"engine's context of {limit}; lower {lower} or raise "
                "evaluation.engine.max_model_len"
            )


def _context(settings: FinetuneSettings) -> float:
    """Context length that the engine will have, in tokens: as configured, else the base's."""
    given = settings.evaluation.engine.get("max_model_len")
    if isinstance(given, int) and given > 0:
        return given
    try:
        config = AutoConfig.from_pretrained(settings.base.path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"base.path: cannot be loaded: {error}") from error
    made_for: float = getattr(config.get_text_config(), "max_position_embeddings", math.inf)
    return made_for
