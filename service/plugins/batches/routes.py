"""OpenAI's files and batches; the service answers batches in the background."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote as quote_url

import anyio
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.common.aio import shielded
from service.common.error_messages import quote
from service.errors import InvalidRequest, NotFound, RangeNotSatisfiable
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugins.batches.batches import Batches, TheBatches
from service.plugins.batches.bodies import (
    BatchBody,
    BatchList,
    BatchRequest,
    FileBody,
    FileDeleted,
    FileList,
    endpoints,
    page,
)
from service.plugins.batches.folder import Bucket
from service.plugins.batches.store import Batch, Page, Purpose, StoredFile
from service.plugins.batches.upload import Upload
from service.tenants.tenant import Tier

files = APIRouter(tags=["batches"])
batches = APIRouter(route_class=JsonRoute, tags=["batches"])
cancellations = APIRouter(tags=["batches"])
"""The router of a POST without a body, which a `JsonRoute` would refuse."""
ROUTERS = (files, batches, cancellations)

_WINDOW = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAY = 86_400
_LEAST_SECONDS = 3600
_NUMBER = re.compile(r"[0-9]{1,12}")
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_MEDIA_TYPE = "application/octet-stream"
_RANGE = "Range"
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer"},
                    },
                }
            }
        },
    }
}


@files.post("/v1/files", openapi_extra=_UPLOAD_BODY)
async def create_file(batches: TheBatches, context: TheContext) -> FileBody:
    """Keep a file of requests, for a batch."""
    upload = context.extension(Upload)
    assert upload is not None
    for name in upload.fields:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise InvalidRequest(
                f"{quote(name)}: unknown field; known are {known}", param=name[:64]
            )
    if (purpose := upload.fields.get("purpose")) != Purpose.BATCH:
        message = f"purpose: must be batch, got {quote(purpose)}"
        raise InvalidRequest(message, param="purpose")
    now = batches.now
    keep = _keep_seconds(upload.fields, batches.settings.keep_days * _DAY)
    file = StoredFile(
        id=upload.file_id,
        tenant=context.tenant.name,
        name=upload.name,
        purpose=Purpose.BATCH,
        bytes=upload.size,
        created_at=now,
        expires_at=now + keep,
    )
    await shielded(_keep(batches, upload, file))
    return FileBody.of(file)


async def _keep(batches: Batches, upload: Upload, file: StoredFile) -> None:
    """Store a file's content and its record, or neither."""
    await batches.folder.keep(upload.path, file.id)
    try:
        await batches.store.add_file(file)
    except BaseException:
        await batches.folder.remove(file.id)
        raise


@files.get("/v1/files", response_model=FileList)
async def list_files(
    batches: TheBatches,
    context: TheContext,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The caller's files."""
    asked = Page(after, limit, newest_first=order == "desc")
    found = await batches.store.files(context.tenant.name, asked, purpose)
    return await page(FileList, FileBody.of, *found)


@files.get("/v1/files/{file_id}")
async def show_file(file_id: str, batches: TheBatches, context: TheContext) -> FileBody:
    """One of these files."""
    return FileBody.of(await batches.store.file(context.tenant.name, file_id))


@files.get("/v1/files/{file_id}/content", response_class=Response, responses=_CONTENT)
async def file_content(file_id: str, batches: TheBatches, context: TheContext) -> Response:
    """The content of one of these files."""
    file = await batches.store.file(context.tenant.name, file_id)
    context.at_end.enter_context(batches.downloads.count(file.tenant))
    # A large file takes its time on a slow line.
    context.set_timeout(context.timeouts.max_ms)
    if (bucket := await batches.folder.bucket_of(file.id)) is not None:
        return await _stream(bucket, file)
    path = batches.folder.content(file.id)
    try:
        content = await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError:
        raise NotFound("file_id: the file has just been deleted", param="file_id") from None
    context.at_end.enter_context(content)
    return FileContent(content, file)


async def _stream(bucket: Bucket, file: StoredFile) -> Response:
    """Stream content from a bucket; a failure after the first block cuts the answer off."""
    blocks = bucket.blocks(file.id, file.bytes)
    first = await anext(blocks, b"")

    async def content() -> AsyncGenerator[bytes, None]:
        yield first
        async for block in blocks:
            yield block

    quoted = quote_url(file.name)
    # The same header as that of FileContent.
    name = f'filename="{quoted}"' if quoted == file.name else f"filename*=utf-8''{quoted}"
    headers = {"content-length": str(file.bytes), "content-disposition": f"attachment; {name}"}
    return StreamingResponse(content(), media_type=_MEDIA_TYPE, headers=headers)


@files.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, batches: TheBatches, context: TheContext) -> FileDeleted:
    """Delete one of these files; not while a batch reads it."""
    await shielded(_delete(batches, context.tenant.name, file_id))
    return FileDeleted(id=file_id)


async def _delete(batches: Batches, tenant: str, file_id: str) -> None:
    """Delete a file's record, then its content."""
    await batches.store.delete_file(tenant, file_id)
    await batches.folder.remove(file_id)


def _keep_seconds(fields: dict[str, str], most: int) -> int:
    """Seconds for which to keep the file: as `expires_after` asks, by default `most`."""
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return most
    if anchor != "created_at":
        message = f"expires_after[anchor]: must be created_at, got {quote(anchor)}"
        raise InvalidRequest(message, param="expires_after")
    if (
        seconds is None
        or not _NUMBER.fullmatch(seconds)
        or not _LEAST_SECONDS <= int(seconds) <= most
    ):
        message = (
            f"expires_after[seconds]: must be {_LEAST_SECONDS} to {most}, got {quote(seconds)}"
        )
        raise InvalidRequest(message, param="expires_after")
    return int(seconds)


class FileContent(FileResponse):
    """The content of an open file, or the part that `Range` asks for (RFC 9110, 14).

    All of it is sent even if the file is deleted meanwhile; the caller closes it. Raises
    InvalidRequest for a malformed `Range`, RangeNotSatisfiable for one beyond the end.
    """

    def __init__(self, content: BinaryIO, file: StoredFile) -> None:
        found = os.fstat(content.fileno())
        super().__init__(
            content.name, media_type=_MEDIA_TYPE, filename=file.name, stat_result=found
        )
        self._content = content
        self._size = found.st_size

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        """The open file: Starlette asks once the headers are sent, too late to find it missing."""
        yield anyio.wrap_file(self._content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def check_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._check(message["status"], scope)
            await send(message)

        await super().__call__(scope, receive, check_and_send)

    def _check(self, status: int, scope: Scope) -> None:
        """Raise the service's own error in place of Starlette's answer to a bad `Range`."""
        given = quote(Headers(scope=scope).get("range"))
        if status == 416:
            message = f"{_RANGE}: the content has {self._size} bytes, got {given}"
            raise RangeNotSatisfiable(message, param=_RANGE, size=self._size)
        if status == 400:
            message = f"{_RANGE}: must be bytes=FIRST-LAST, places from 0, got {given}"
            raise InvalidRequest(message, param=_RANGE)


@batches.post("/v1/batches")
async def create_batch(body: BatchRequest, runtime: TheRuntime, context: TheContext) -> BatchBody:
    """Answer the requests of a file, as flex requests of the caller."""
    batches = runtime.plugins.get(Batches)
    if Tier.FLEX not in context.tenant.tiers:
        raise InvalidRequest(
            "A batch is served in the tier flex, which is not in the `service_tiers` of this key's "
            "tenant."
        )
    known = endpoints()
    if body.endpoint not in known:
        message = f"endpoint: must be one of {', '.join(known)}, got {quote(body.endpoint)}"
        raise InvalidRequest(message, param="endpoint")
    settings, now = batches.settings, batches.now
    keep = settings.keep_days * _DAY
    if body.output_expires_after is not None:
        keep = min(keep, body.output_expires_after.seconds)
    batch = Batch(
        id="",
        tenant=context.tenant.name,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        created_at=now,
        expires_at=now + _window_seconds(body.completion_window, settings.max_window_h),
        keep_seconds=keep,
        metadata=body.metadata,
    )
    created = await batches.store.create(batch)
    batches.wake()
    return BatchBody.of(created)


@batches.get("/v1/batches", response_model=BatchList)
async def list_batches(
    batches: TheBatches,
    context: TheContext,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """The caller's batches, the newest first."""
    found = await batches.store.batches(context.tenant.name, Page(after, limit))
    return await page(BatchList, BatchBody.of, *found)


@batches.get("/v1/batches/{batch_id}")
async def show_batch(batch_id: str, batches: TheBatches, context: TheContext) -> BatchBody:
    """One of these batches."""
    return BatchBody.of(await batches.store.batch(context.tenant.name, batch_id))


@cancellations.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, batches: TheBatches, context: TheContext) -> BatchBody:
    """End one of these batches; what is answered by then is kept."""
    batch = await batches.store.cancel(context.tenant.name, batch_id)
    batches.wake()
    return BatchBody.of(batch)


def _window_seconds(text: str, max_hours: int) -> int:
    """Seconds of a completion window."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= max_hours * _SECONDS["h"]:
        message = (
            "completion_window: must be a number and s, m, h or d, at most "
            f"{max_hours}h, got {quote(text)}"
        )
        raise InvalidRequest(message, param="completion_window")
    return seconds
