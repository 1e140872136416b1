"""Sinks for a job's outputs, whole or streamed, and measures of the model's confidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.contract import Output, Part, TextSink, TokenLogprobs
from service.engine.texts import Writer


class Fold:
    """Adds up the outputs of one job: each sequence's parts become one.

    With `details` the tokens and their log-probabilities are kept too, not only their number.
    """

    def __init__(self, sequences: int = 1, *, details: bool = False) -> None:
        self._sequences = sequences
        self._details = details
        self.restart()

    def restart(self) -> None:
        """Forget all outputs."""
        self.tokens = 0
        """Output tokens of all sequences."""
        self.first: Output | None = None
        """The first output, which knows the prompt's tokens."""
        self.prompt_logprobs: list[TokenLogprobs | None] | None = None
        self._texts: list[list[str]] = [[] for _ in range(self._sequences)]
        self._tokens: list[list[int]] = [[] for _ in range(self._sequences)]
        self._logprobs: list[list[TokenLogprobs | None]] = [[] for _ in range(self._sequences)]
        self._last: dict[int, Part] = {}

    def take(self, output: Output) -> TextSink | None:
        """Add an output."""
        if self.first is None:
            self.first = output
        elif output.cached_tokens > self.first.cached_tokens:  # which only the last may know
            self.first.cached_tokens = output.cached_tokens
        if output.prompt_logprobs:
            self.prompt_logprobs = list(output.prompt_logprobs)
        for part in output.parts:
            self.tokens += len(part.token_ids)
            self._texts[part.index].append(part.text)
            self._last[part.index] = part
            if self._details:
                self._tokens[part.index] += part.token_ids
                self._logprobs[part.index] += part.logprobs or ()
        return None if self._details or self._sequences > 1 else self

    def add(self, text: str, tokens: int) -> None:
        """Add a step's text."""
        self._texts[0].append(text)
        self.tokens += tokens

    def release(self) -> None:
        """Do nothing: a fold sends no text."""

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that came from the cache."""
        return 0 if self.first is None else self.first.cached_tokens

    def whole(self) -> list[Part]:
        """The sequences, in their order, once all have ended."""
        return [self._part(index) for index in range(self._sequences)]

    def _part(self, index: int) -> Part:
        last = self._last.get(index)
        return Part(
            index,
            "".join(self._texts[index]),
            self._tokens[index],
            None if last is None else last.finish_reason,
            None if last is None else last.stop_reason,
            self._logprobs[index] or None,
        )


class StreamSink:
    """Passes a job's outputs on, and merges texts that come while the client does not read.

    With `texts` the engine sends the steps of a single answer as text only, without tokens.
    """

    restart = None

    def __init__(self, writer: Writer, *, texts: bool) -> None:
        self.tokens = 0
        """Output tokens of all sequences."""
        self.first: Output | None = None
        """The first output, which knows the prompt's tokens."""
        self._texts = texts
        self._writer = writer
        self._held: dict[int, Part] = {}
        writer.on_free = self.release

    def take(self, output: Output) -> TextSink | None:
        """Take an output."""
        if self.first is None:
            self.first = output
            self._begin(output)
        elif output.cached_tokens > self.first.cached_tokens:
            self.first.cached_tokens = output.cached_tokens
        for part in output.parts:
            self.tokens += len(part.token_ids)
            if self.tokens or part.text or part.finish_reason is not None:
                self._read(part)  # else the prompt is not read to its end
        return self if self._texts else None

    def add(self, text: str, tokens: int) -> None:
        """Buffer a step's text."""
        self.tokens += tokens
        self._hold(Part(0, text, ()))

    def release(self) -> None:
        """Send the buffered texts, unless the client does not read."""
        if self._held and not self._writer.busy:
            held, self._held = self._held, {}
            self._send([*held.values()])

    def _hold(self, part: Part) -> None:
        """Buffer a part, with its sequence's buffered text put before its own."""
        if (held := self._held.get(part.index)) is not None:
            part.text = held.text + part.text
        self._held[part.index] = part

    def _begin(self, output: Output) -> None:
        """The first output has come."""

    def _read(self, part: Part) -> None:
        """Buffer a part, or send it at once."""
        self._hold(part)
        self.release()

    def _send(self, parts: Sequence[Part]) -> None:
        """Write parts of different sequences."""
        raise NotImplementedError


TOP_LOGPROBS = 5
"""Number of most likely tokens at each place from which confidence is computed."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Measures over the generated tokens of one sequence.

    `sequence_logprob` is log P(answer | prompt) in nats, `mean_token_logprob` the same per token,
    and `min_token_probability` the least certain token's probability. At each place, the returned
    top log-probabilities, normalised to one, have an entropy; `mean_entropy` is the mean, in nats.
    `agreement` is the share of sampled answers that equal this one; None if none were sampled.
    """

    sequence_logprob: float
    mean_token_logprob: float
    min_token_probability: float
    mean_entropy: float
    agreement: float | None = None


@dataclass(slots=True)
class ConfidenceMeter:
    """Collects one sequence's tokens as they come."""

    _tokens: int = 0
    _total: float = 0.0
    _least: float = 0.0
    _entropy: float = 0.0

    def add(self, part: Part) -> None:
        """Take the next tokens of the sequence."""
        for token_id, place in zip(part.token_ids, part.logprobs or (), strict=False):
            if place is None:
                continue
            logprob = place[token_id].logprob
            self._tokens += 1
            self._total += logprob
            self._least = min(self._least, logprob)
            self._entropy += entropy([each.logprob for each in place.values()])

    def result(self) -> Confidence | None:
        """The measures; None while there is no token."""
        if not self._tokens:
            return None
        return Confidence(
            sequence_logprob=self._total,
            mean_token_logprob=self._total / self._tokens,
            min_token_probability=math.exp(self._least),
            mean_entropy=self._entropy / self._tokens,
        )


def entropy(logprobs: Sequence[float]) -> float:
    """Shannon entropy, in nats, of log-probabilities normalised to sum to one."""
    greatest = max(logprobs)
    weights = [math.exp(logprob - greatest) for logprob in logprobs]
    total = sum(weights)
    return -sum(w / total * math.log(w / total) for w in weights if w > 0)
