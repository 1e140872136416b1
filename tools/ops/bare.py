"""The service's command line without its series and request lines, to measure what they cost."""

from service.commands.cli import app
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry


def _nothing(*_: object, **__: object) -> None:
    """Stand-in for every method of an observer."""


def strip() -> None:
    """Take the observers of gate, streams and requests out of this process."""
    observers = ("gate_changed", "queue_changed", "queued_for", "first_token", "tokens_after")
    for name in (*observers, "used"):
        setattr(Metrics, name, _nothing)
    for name in ("arrived", "answered"):
        setattr(RequestTelemetry, name, _nothing)


if __name__ == "__main__":
    strip()
    app()
