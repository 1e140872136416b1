"""A file's upload, written to the disk while it is read."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.api.body import ClientGone
from service.api.encoding import is_gzip
from service.api.form import Form, boundary_of
from service.batches.batches import Batches
from service.batches.refusals import too_large
from service.context import RequestContext
from service.errors import (
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)

UPLOAD = "llm_service.upload"
"""Key of a scope under which the route finds the upload."""

_PATH = "/v1/files"
_AT_ONCE = 4
_FRAME_BYTES = 64 * 1024
"""Bytes of a form beside its file."""
_WRITE_BYTES = 256 * 1024
_ROUTE_SECONDS = 5.0
"""Time of the deadline that the route keeps, once the upload is complete."""


@dataclass(slots=True)
class Upload:
    """A file that was read whole: its content's place, its name and the form's other fields."""

    path: Path
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)

    async def discard(self) -> None:
        """Remove the content unless it was moved to its place."""
        await asyncio.to_thread(self.path.unlink, missing_ok=True)


def _check_frame(size: int) -> None:
    """Raise for a form of more bytes beside its file, whose parsing no quota counts."""
    if size > _FRAME_BYTES:
        message = f"body: a form may have at most {_FRAME_BYTES} bytes beside its file, got more"
        raise PayloadTooLarge(message)


def is_upload(scope: Scope) -> bool:
    """True for the request whose body is a file."""
    return bool(scope["method"] == "POST" and scope["path"] == _PATH)


class UploadReader:
    """Reads uploads: a tenant's few at once, within the space that its files may have.

    The upload may take as long as any request may (`gate.max_timeout_ms`), and pause as long as a
    body may take (`http.body_timeout_ms`).
    """

    def __init__(self, batches: Batches, pause_ms: int) -> None:
        self._batches = batches
        self._pause_ms = pause_ms
        self._running: Counter[str] = Counter()

    async def read(self, headers: Headers, receive: Receive, context: RequestContext) -> Upload:
        """The upload, whose content is removed with its request unless it is moved.

        Raises UnsupportedMediaType, InvalidRequest, PayloadTooLarge, TooManyRequests,
        RequestTimeout, Unavailable where the disk is full, and ClientGone.
        """
        if is_gzip(headers):
            raise UnsupportedMediaType("Content-Encoding: a file must come as it is, got gzip")
        boundary = boundary_of(headers)
        tenant = context.tenant.name
        with self._one(tenant):
            space = await self._batches.store.space(tenant)
            declared = headers.get("content-length", "0")
            if declared.isdigit() and int(declared) > space + _FRAME_BYTES:
                raise too_large(self._batches.settings, space)
            upload = Upload(self._batches.folder.new_upload())
            context.at_end.push_async_callback(upload.discard)
            context.set_timeout(context.max_timeout_ms)
            try:
                await self._write(boundary, space, receive, context, upload)
            except OSError as error:
                message = "The disk of files cannot be written now."
                raise Unavailable(message, code="store_unavailable", retry_after=30) from error
        return upload

    async def _write(
        self,
        boundary: bytes,
        space: int,
        receive: Receive,
        context: RequestContext,
        upload: Upload,
    ) -> None:
        error = too_large(self._batches.settings, space)
        with await asyncio.to_thread(upload.path.open, "xb") as file:
            form = Form(boundary, file, space, error)
            held, total, more = bytearray(), 0, True
            while more:
                part, more = await self._part(receive, context)
                held += part
                total += len(part)
                if len(held) >= _WRITE_BYTES or not more:
                    await asyncio.to_thread(form.feed, bytes(held))
                    held.clear()
                    _check_frame(total - form.size)
        form.check()
        upload.name, upload.size, upload.fields = form.name or "", form.size, form.fields

    async def _part(self, receive: Receive, context: RequestContext) -> tuple[bytes, bool]:
        """The next part of the body, and whether more come."""
        left = context.remaining() - _ROUTE_SECONDS
        try:
            async with asyncio.timeout(min(left, self._pause_ms / 1000)):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout(
                f"body: paused for {self._pause_ms} ms, or not received within "
                f"{context.max_timeout_ms} ms"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    @contextmanager
    def _one(self, tenant: str) -> Iterator[None]:
        if self._running[tenant] >= _AT_ONCE:
            message = f"file: at most {_AT_ONCE} uploads of a tenant at once. Send fewer."
            raise TooManyRequests(message, code="too_many_uploads", retry_after=1)
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
