"""The registry as a scraper reads it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_SWITCH_SECONDS = 0.0005


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Every series, and the content type: OpenMetrics or Prometheus' text, as accepted.

    Takes 6 us a series of processor time; call it in a thread beside the loop that serves.
    """
    encode, content_type = choose_encoder(accept)
    with _considerate():
        return encode(registry), content_type


@contextmanager
def _considerate() -> Iterator[None]:
    """Let other threads have the interpreter ten times as often as usual.

    With Python's 5 ms, a loop that asks for the interpreter back several times in a step waits as
    often: 50 ms beside a scrape of 30,000 series, against 4 to 6.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
