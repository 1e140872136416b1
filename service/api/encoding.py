"""Content codings of request bodies: gzip, inflated within the limit of a body."""

import zlib

from starlette.datastructures import Headers

from service.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from service.quoting import quote

_GZIP = 16 + zlib.MAX_WBITS


def is_gzip(headers: Headers) -> bool:
    """True for a body in gzip; UnsupportedMediaType for one in another coding."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding: must be gzip or none, got {quote(coding)}")
    return coding != "identity"


def inflated(body: bytes, limit: int) -> bytes:
    """The content of a gzip body of one member.

    No byte beyond the limit is inflated. Raises PayloadTooLarge for more, InvalidRequest for a
    body that is not one complete member.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequest("body: not valid gzip", code="invalid_gzip") from None
    if len(content) > limit:
        raise PayloadTooLarge(f"body: at most {limit} bytes, got more once it was inflated")
    if not stream.eof or stream.unused_data:
        raise InvalidRequest("body: must be one whole gzip member", code="invalid_gzip")
    return content
