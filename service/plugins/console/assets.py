"""The console's static files, which need no build step."""

from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "web"
PAGE, LIVE_PAGE = "index.html", "live.html"
"""The pages of the public and of the admin port."""

PARTS = tuple(sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".html"))
"""Names of styles and scripts."""

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}

HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every file: nothing of another host, no inline script, no markup from strings."""
