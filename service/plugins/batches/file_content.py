"""The answer with a file's content, or with parts of it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import anyio
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from service.common.error_messages import quote
from service.errors import InvalidRequest, RangeNotSatisfiable
from service.plugins.batches.records import StoredFile

MEDIA_TYPE = "application/octet-stream"
_PARAM = "Range"


class FileContent(FileResponse):
    """An open content, or what `Range` asks for of it (RFC 9110, 14).

    It is sent whole although its file is deleted meanwhile; the caller closes it. Raises
    InvalidRequest for a `Range` that is none, RangeNotSatisfiable for one beyond the end.
    """

    def __init__(self, content: BinaryIO, file: StoredFile) -> None:
        found = os.fstat(content.fileno())
        super().__init__(content.name, media_type=MEDIA_TYPE, filename=file.name, stat_result=found)
        self._content = content
        self._size = found.st_size

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        """Called by Starlette once the answer has begun, when no file may be missing any more."""
        yield anyio.wrap_file(self._content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sound(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._check(message["status"], scope)
            await send(message)

        await super().__call__(scope, receive, sound)

    def _check(self, status: int, scope: Scope) -> None:
        """Raise what Starlette would answer in a shape of its own."""
        given = quote(Headers(scope=scope).get("range"))
        if status == 416:
            message = f"{_PARAM}: the content has {self._size} bytes, got {given}"
            raise RangeNotSatisfiable(message, param=_PARAM, size=self._size)
        if status == 400:
            message = f"{_PARAM}: must be bytes=FIRST-LAST, places from 0, got {given}"
            raise InvalidRequest(message, param=_PARAM)
