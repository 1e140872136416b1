"""The console's files, which are served as they are: no build makes them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "web"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
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
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every file: nothing of another host, no inline script, no markup from strings."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file with its media type and its entity tag."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "Asset":
        """Read a file of the console."""
        body = path.read_bytes()
        return cls(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


PAGE = Asset.read(_FOLDER / "index.html")
"""The page of the public port."""

LIVE_PAGE = Asset.read(_FOLDER / "live.html")
"""The page of the operations port."""

PARTS: Mapping[str, Asset] = {
    path.name: Asset.read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix != ".html"
}
"""Styles and scripts by their names."""
