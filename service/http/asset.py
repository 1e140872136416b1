"""Static content: made once, and sent from memory."""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
}
_HEADERS = {"cache-control": "no-cache", "vary": "accept-encoding"}


class Asset:
    """Static content with its media type and an entity tag, which lets clients get a 304.

    Clients that accept gzip get a compressed copy, which is made once, in a thread.
    """

    def __init__(
        self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self._media_type = media_type
        self._headers = {**_HEADERS, **(headers or {})}
        self._digest = hashlib.sha256(body).hexdigest()[:32]
        self._packed: bytes | None = None

    @classmethod
    def read(cls, path: Path, headers: Mapping[str, str] | None = None) -> "Asset":
        """Read a file, whose name says its type."""
        return cls(path.read_bytes(), _TYPES[path.suffix], headers)

    async def answer(self, request: Request) -> Response:
        """The content, or 304 if the client has it already."""
        packed = accepts(request.headers.get("accept-encoding", ""), "gzip", "x-gzip")
        tag = f'"{self._digest}-gzip"' if packed else f'"{self._digest}"'
        headers = {**self._headers, "etag": tag}
        had = request.headers.get("if-none-match", "").split(",")
        if tag in {each.strip().removeprefix("W/") for each in had}:
            return Response(status_code=304, headers=headers)
        body = self.body
        if packed:
            headers["content-encoding"] = "gzip"
            if self._packed is None:
                self._packed = await asyncio.to_thread(gzip.compress, body, mtime=0)
            body = self._packed
        return Response(body, headers=headers, media_type=self._media_type)


def accepts(header: str, *values: str) -> bool:
    """True if an `Accept` or `Accept-Encoding` header names one of these without `q=0`.

    Wildcards name nothing.
    """
    for each in header.lower().split(","):
        value, _, quality = each.partition(";")
        if value.strip() in values:
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False
