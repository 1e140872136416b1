"""Cross-origin requests: pages of listed origins may call the service from a browser."""

from collections.abc import Iterable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_EXPOSED = (
    *(
        "x-request-id",
        "x-feedback-id",
        "request-id",
        "x-ignored-fields",
        "x-guard-flagged",
        "traceresponse",
    ),
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
    *("retry-after", "retry-after-ms", "x-should-retry"),
)
_PREFLIGHT_SECONDS = 600


class Cors(CORSMiddleware):
    """Answers preflights, which carry no key, and lets pages of `origins` read the answers.

    No cookies are allowed, so a page without a key gets no more than any caller without one.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )
