"""The service's command line without its series and request lines, to measure what they cost."""

from service.cli.main import app
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry


def _nothing(*_: object, **__: object) -> None:
    """Stand-in for every method of an observer."""


def strip() -> None:
    """Take the observers of gate, streams and requests out of this process."""
    for name in ("gate_changed", "queue_changed", "queued_for", "first_token", "used"):
        setattr(Metrics, name, _nothing)
    Metrics.between_tokens = lambda *_: _nothing  # type: ignore[method-assign]
    for name in ("arrived", "answered"):
        setattr(RequestTelemetry, name, _nothing)


if __name__ == "__main__":
    strip()
    app()
