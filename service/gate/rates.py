"""Rates of the engine, as measured."""

import math

_SPAN_S = 10.0
_SPAN_SAMPLES = 64.0


class DecayedRatio:
    """A ratio of two sums with fading weights: a value `span` in the past weighs 1/e.

    A quotient of exponentially weighted sums has no start-up bias, unlike an average that starts
    from zero or from its first sample.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._amount = 0.0
        self._per = 0.0

    def add(self, amount: float, per: float, age: float) -> None:
        """Count `amount` in `per`, after `age` more of the span's unit has passed."""
        keep = math.exp(-age / self._span) if age else 1.0
        self._amount = self._amount * keep + amount
        self._per = self._per * keep + per

    @property
    def value(self) -> float | None:
        """The ratio; None as long as nothing was measured."""
        return self._amount / self._per if self._per > 0 else None


class Rates:
    """The engine's rates: those per second count only time in which every slot was taken.

    With free slots the served rate shows only the demand, not what the engine could serve.
    """

    def __init__(self) -> None:
        self._service = DecayedRatio(_SPAN_S)
        self._releases = DecayedRatio(_SPAN_S)
        self._prefill = DecayedRatio(_SPAN_SAMPLES)
        self._token = DecayedRatio(_SPAN_SAMPLES)

    def elapsed(self, seconds: float) -> None:
        """Let time pass with every slot taken.

        A gap longer than the span counts as one span, so a machine that slept does not look slow
        for long.
        """
        seconds = min(seconds, _SPAN_S)
        self._service.add(0.0, seconds, seconds)
        self._releases.add(0.0, seconds, seconds)

    def served(self, cost: float) -> None:
        """Count service done while every slot was taken."""
        self._service.add(cost, 0.0, 0.0)

    def released(self, slots: float) -> None:
        """Count slots given back, for the part of their tickets' time with every slot taken."""
        self._releases.add(slots, 0.0, 0.0)

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Count a prompt: its uncached tokens and the time from its start to its first token."""
        if tokens > 0:
            self._prefill.add(seconds, tokens, 1.0)

    def decoded(self, tokens: float, seconds: float) -> None:
        """Count tokens of one sequence and the time they took."""
        self._token.add(seconds, tokens, 1.0)

    @property
    def service(self) -> float | None:
        """Cost served per second by the full engine."""
        return self._service.value

    @property
    def releases(self) -> float | None:
        """Slots given back per second by the full engine."""
        return self._releases.value

    @property
    def prefill_seconds(self) -> float:
        """Seconds to the first token, per uncached prompt token; 0 while unknown."""
        return self._prefill.value or 0.0

    @property
    def token_seconds(self) -> float:
        """Seconds per output token of one sequence; 0 while unknown."""
        return self._token.value or 0.0
