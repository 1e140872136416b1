"""A file's upload (multipart/form-data, RFC 7578), written to the disk while it is read."""

import asyncio
import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from service.context import RequestContext
from service.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from service.http.json_routes import is_gzip, next_part
from service.plugins.batches.batches import Batches, TenantLimit
from service.plugins.batches.store import Reservation, new_file_id, too_large

_PATH = "/v1/files"
_AT_ONCE = 4
_FRAME_BYTES = 64 * 1024
"""Most bytes of a form apart from its file."""
_FILE = "file"
_MOST_FIELDS = 8
_MOST_FIELD_BYTES = 1024
_MOST_NAME = 255
_MOST_TYPE = 256
"""Characters of a form's Content-Type, whose parsing takes 0.1 s for 60,000 semicolons."""
_WRITE_BYTES = 256 * 1024
_ROUTE_SECONDS = 5.0
"""Part of the deadline that is left for the route once the upload is complete."""
_AFTER_DEADLINE_SECONDS = 60.0
"""Seconds after its deadline by which a request, and its upload, has ended."""


@dataclass(slots=True)
class Upload:
    """A complete upload: its future file id, temporary path, name, size and other form fields.

    It is stored as an extension of the request's context.
    """

    file_id: str
    path: Path
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)


class UploadReader:
    """Reads uploads, a few of each tenant at once, within the space reserved for each upload.

    The upload may take as long as any request may (`admission.max_timeout_ms`), and pause as long
    as a body may take (`http.body_timeout_ms`).
    """

    def __init__(self, batches: Batches, pause_ms: int) -> None:
        self._batches = batches
        self._pause_ms = pause_ms
        self._running = TenantLimit(_AT_ONCE, "uploads")

    def owns(self, scope: Scope) -> bool:
        """True for the request whose body is a file."""
        return bool(scope["method"] == "POST" and scope["path"] == _PATH)

    async def read(self, headers: Headers, receive: Receive, context: RequestContext) -> int:
        """Read the upload into a temporary file, and attach it to the request's context.

        The temporary file is removed at the request's end unless it was moved. Raises
        UnsupportedMediaType, InvalidRequest, PayloadTooLarge, TooManyRequests, RequestTimeout,
        Unavailable if the disk is full, and ClientGone.
        """
        if is_gzip(headers):
            raise UnsupportedMediaType("Content-Encoding: a file must come as it is, got gzip")
        boundary = _boundary_of(headers)
        with self._running.count(context.tenant.name):
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
        """Reserve space for the file; PayloadTooLarge if its declared size exceeds this space.

        The file's exact size is known only at its end; it is less than the size of the body.
        """
        settings, declared = self._batches.settings, headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else settings.max_file_bytes
        asked = min(size, settings.max_file_bytes)
        ended = self._batches.now + math.ceil(context.remaining() + _AFTER_DEADLINE_SECONDS)
        reservation = Reservation(file_id, context.tenant.name, asked, ended)
        space = await self._batches.store.reserve(reservation)
        if size > space + _FRAME_BYTES and declared:
            raise too_large(settings, space)
        return space

    async def _discard(self, upload: Upload) -> None:
        """Remove the temporary file unless it was moved, and cancel the reservation."""
        await asyncio.to_thread(upload.path.unlink, missing_ok=True)
        with suppress(Unavailable):  # the reservation expires
            await self._batches.store.cancel_reservation(upload.file_id)

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
            form = Form(boundary, upload, file, space, error)
            held, total, more = bytearray(), 0, True
            while more:
                part, more = await self._part(receive, context)
                held += part
                total += len(part)
                if len(held) >= _WRITE_BYTES or not more:
                    await asyncio.to_thread(form.feed, bytes(held))
                    held.clear()
                    if total - upload.size > _FRAME_BYTES:  # no quota counts their parsing
                        raise PayloadTooLarge(
                            f"body: a form may have at most {_FRAME_BYTES} bytes beside its file, "
                            "got more"
                        )
        form.check()

    async def _part(self, receive: Receive, context: RequestContext) -> tuple[bytes, bool]:
        """The next part of the body, and whether more follow."""
        left = context.remaining() - _ROUTE_SECONDS
        try:
            async with asyncio.timeout(min(left, self._pause_ms / 1000)):
                return await next_part(receive)
        except TimeoutError:
            raise RequestTimeout(
                f"body: paused for {self._pause_ms} ms, or not received within "
                f"{context.timeouts.max_ms} ms"
            ) from None


class Form:
    """Parses a form's bytes into an upload, and writes the content of its field `file` to `file`.

    Raises `error` if this content has more than `space` bytes, InvalidRequest for any other form.
    Blocks while it writes.
    """

    def __init__(
        self, boundary: bytes, upload: Upload, file: BinaryIO, space: int, error: PayloadTooLarge
    ) -> None:
        self._upload = upload
        self._file = file
        self._space = space
        self._error = error
        self._complete = False
        self._name = self._value = b""
        self._headers: dict[str, str] = {}
        self._field: str | None = None
        self._held = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._take_name,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse more bytes of the form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            message = f"body: not valid multipart/form-data: {error}"
            raise InvalidRequest(message, code="invalid_multipart") from None

    def check(self) -> None:
        """Raise InvalidRequest unless the form is complete and has a file."""
        if not self._complete:
            raise InvalidRequest(
                "body: the form's last boundary is missing", code="invalid_multipart"
            )
        if not self._upload.name:
            raise InvalidRequest("file: required, a part with a filename", param=_FILE)

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._field = _decoded(options.get(b"name", b""))
        if self._field != _FILE:
            if len(self._upload.fields) == _MOST_FIELDS:
                raise InvalidRequest(f"body: at most {_MOST_FIELDS} fields beside the file")
            return
        if self._upload.name:
            raise InvalidRequest("file: exactly one, got another", param=_FILE)
        # Without folders (RFC 7578, 4.2): a client may save the download under this name.
        if not (name := re.split(r"[/\\]", _decoded(options.get(b"filename", b"")))[-1]):
            raise InvalidRequest("file: required, a part with a filename", param=_FILE)
        self._upload.name = name[:_MOST_NAME]

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == _FILE:
            self._upload.size += end - start
            if self._upload.size > self._space:
                raise self._error
            self._file.write(memoryview(data)[start:end])
            return
        self._held += data[start:end]
        if len(self._held) > _MOST_FIELD_BYTES:
            raise InvalidRequest(
                f"body: a field may have at most {_MOST_FIELD_BYTES} bytes, got more"
            )

    def _end_part(self) -> None:
        if self._field is not None and self._field != _FILE:
            self._upload.fields[self._field] = _decoded(bytes(self._held))
        self._headers, self._held, self._field = {}, bytearray(), None

    def _end(self) -> None:
        self._complete = True


def _boundary_of(headers: Headers) -> bytes:
    """The boundary between a form's parts; UnsupportedMediaType if the body is no form."""
    given = headers.get("content-type", "")
    kind, options = parse_options_header(given if len(given) <= _MOST_TYPE else "")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise UnsupportedMediaType("Content-Type: must be multipart/form-data with a boundary")
    return boundary


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
