"""A file's upload, written to the disk while it is read."""

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.context import RequestContext
from service.errors import (
    PayloadTooLarge,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from service.http.body import is_gzip, next_part
from service.plugins.batches.batches import Batches
from service.plugins.batches.few_at_once import FewAtOnce
from service.plugins.batches.form import Form, boundary_of
from service.plugins.batches.outcome import new_file_id
from service.plugins.batches.records import Arrival
from service.plugins.batches.refusals import too_large

_PATH = "/v1/files"
_AT_ONCE = 4
_FRAME_BYTES = 64 * 1024
"""Bytes of a form beside its file."""
_WRITE_BYTES = 256 * 1024
_ROUTE_SECONDS = 5.0
"""Time of the deadline that the route keeps, once the upload is complete."""
_AFTER_DEADLINE_SECONDS = 60.0
"""Time after its deadline in which a request ends, and an upload with it."""


@dataclass(slots=True)
class Upload:
    """A file that was read whole: the id that it will have, its content's place, its name and the
    form's other fields. An extension of the request's record.
    """

    file_id: str
    path: Path
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)


def _check_frame(size: int) -> None:
    """Raise for a form of more bytes beside its file, whose parsing no quota counts."""
    if size > _FRAME_BYTES:
        message = f"body: a form may have at most {_FRAME_BYTES} bytes beside its file, got more"
        raise PayloadTooLarge(message)


class UploadReader:
    """Reads uploads: a tenant's few at once, within the space that is reserved for each.

    The upload may take as long as any request may (`gate.max_timeout_ms`), and pause as long as a
    body may take (`http.body_timeout_ms`).
    """

    def __init__(self, batches: Batches, pause_ms: int) -> None:
        self._batches = batches
        self._pause_ms = pause_ms
        self._few = FewAtOnce(_AT_ONCE, "uploads")

    def owns(self, scope: Scope) -> bool:
        """True for the request whose body is a file."""
        return bool(scope["method"] == "POST" and scope["path"] == _PATH)

    async def read(self, headers: Headers, receive: Receive, context: RequestContext) -> int:
        """Keep the upload with its request; its content is removed with it unless it is moved.

        Raises UnsupportedMediaType, InvalidRequest, PayloadTooLarge, TooManyRequests,
        RequestTimeout, Unavailable where the disk is full, and ClientGone.
        """
        if is_gzip(headers):
            raise UnsupportedMediaType("Content-Encoding: a file must come as it is, got gzip")
        boundary = boundary_of(headers)
        with self._few.one(context.tenant.name):
            upload = Upload(new_file_id(), self._batches.folder.new_upload())
            context.at_end.push_async_callback(self._discard, upload)
            context.set_timeout(context.timeouts.max_ms)
            space = await self._reserve(upload.file_id, headers, context)
            try:
                await self._write(boundary, space, receive, context, upload)
            except OSError as error:
                message = "The disk of files cannot be written now."
                raise Unavailable(message, code="store_unavailable", retry_after=30) from error
        context.extend(upload)
        return upload.size

    async def _reserve(self, file_id: str, headers: Headers, context: RequestContext) -> int:
        """Reserve the bytes that the file may have; PayloadTooLarge for one that says it has more.

        Its size is not known before its end, but it is less than the body's.
        """
        settings, declared = self._batches.settings, headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else settings.max_file_bytes
        asked = min(size, settings.max_file_bytes)
        ended = self._batches.now + math.ceil(context.remaining() + _AFTER_DEADLINE_SECONDS)
        arrival = Arrival(file_id, context.tenant.name, asked, ended)
        space = await self._batches.store.reserve(arrival)
        if size > space + _FRAME_BYTES and declared:
            raise too_large(settings, space)
        return space

    async def _discard(self, upload: Upload) -> None:
        """Remove the content unless it was moved to its place, and hold nothing more for it."""
        await asyncio.to_thread(upload.path.unlink, missing_ok=True)
        with suppress(Unavailable):  # it expires
            await self._batches.store.give_back(upload.file_id)

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
                return await next_part(receive)
        except TimeoutError:
            raise RequestTimeout(
                f"body: paused for {self._pause_ms} ms, or not received within "
                f"{context.timeouts.max_ms} ms"
            ) from None
