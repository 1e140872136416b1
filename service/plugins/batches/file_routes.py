"""OpenAI's files: what batches read, and what they wrote."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal
from urllib.parse import quote as quote_url

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from service.common.aio import to_its_end
from service.common.error_messages import quote
from service.errors import InvalidRequest, NotFound
from service.http.json_routes import TheContext
from service.http.streams import page
from service.plugins.batches.batches import Batches, TheBatches
from service.plugins.batches.bucket import Bucket
from service.plugins.batches.file_bodies import FileBody, FileDeleted, FileList
from service.plugins.batches.file_content import MEDIA_TYPE, FileContent
from service.plugins.batches.records import Page, Purpose, StoredFile
from service.plugins.batches.upload import Upload

router = APIRouter(tags=["batches"])

_DAY = 86_400
_LEAST_SECONDS = 3600
_NUMBER = re.compile(r"[0-9]{1,12}")
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
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


@router.post("/v1/files", openapi_extra=_UPLOAD_BODY)
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
    await to_its_end(_keep(batches, upload, file))
    return FileBody.of(file)


async def _keep(batches: Batches, upload: Upload, file: StoredFile) -> None:
    """Keep a file's content and its record, both or none."""
    await batches.folder.keep(upload.path, file.id)
    try:
        await batches.store.add_file(file)
    except BaseException:
        await batches.folder.remove(file.id)
        raise


@router.get("/v1/files", response_model=FileList)
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


@router.get("/v1/files/{file_id}")
async def show_file(file_id: str, batches: TheBatches, context: TheContext) -> FileBody:
    """One of these files."""
    return FileBody.of(await batches.store.file(context.tenant.name, file_id))


@router.get("/v1/files/{file_id}/content", response_class=Response, responses=_CONTENT)
async def file_content(file_id: str, batches: TheBatches, context: TheContext) -> Response:
    """The content of one of these files."""
    file = await batches.store.file(context.tenant.name, file_id)
    context.at_end.enter_context(batches.downloads.one(file.tenant))
    # A large file takes its time on a slow line.
    context.set_timeout(context.timeouts.max_ms)
    if (bucket := await batches.folder.bucket_of(file.id)) is not None:
        return await _streamed(bucket, file)
    path = batches.folder.content(file.id)
    try:
        content = await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError:
        raise NotFound("file_id: the file has just been deleted", param="file_id") from None
    context.at_end.enter_context(content)
    return FileContent(content, file)


async def _streamed(bucket: Bucket, file: StoredFile) -> Response:
    """The content from a bucket, which fails before the answer begins, or cuts it off."""
    blocks = bucket.blocks(file.id, file.bytes)
    first = await anext(blocks, b"")

    async def content() -> AsyncGenerator[bytes, None]:
        yield first
        async for block in blocks:
            yield block

    quoted = quote_url(file.name)
    # As FileContent has it.
    name = f'filename="{quoted}"' if quoted == file.name else f"filename*=utf-8''{quoted}"
    headers = {"content-length": str(file.bytes), "content-disposition": f"attachment; {name}"}
    return StreamingResponse(content(), media_type=MEDIA_TYPE, headers=headers)


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, batches: TheBatches, context: TheContext) -> FileDeleted:
    """Delete one of these files; not while a batch reads it."""
    await to_its_end(_delete(batches, context.tenant.name, file_id))
    return FileDeleted(id=file_id)


async def _delete(batches: Batches, tenant: str, file_id: str) -> None:
    """Delete a file's record and its content, both or none."""
    await batches.store.delete_file(tenant, file_id)
    await batches.folder.remove(file_id)


def _keep_seconds(fields: dict[str, str], most: int) -> int:
    """Seconds for which the file is kept."""
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
