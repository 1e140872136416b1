"""Refusals of a store of batches, the same wherever its records are."""

from service.common.error_messages import quote
from service.errors import InvalidRequest, NotFound, PayloadTooLarge
from service.plugins.batches.records import Batch
from service.plugins.batches.settings import BatchSettings


def space_of(settings: BatchSettings, count: int, size: int) -> int:
    """Bytes that a new file may have beside a tenant's `count` files and `size` bytes;
    InvalidRequest if there may be no more files.
    """
    if count >= settings.max_files:
        raise too_many_files(settings, "file", "got one more")
    return min(settings.max_file_bytes, settings.tenant_bytes - size)


def too_many_files(settings: BatchSettings, param: str, reason: str) -> InvalidRequest:
    """The error for one more file than a tenant may have, or for a batch that would write it."""
    message = f"{param}: at most {settings.max_files} files, {reason}; delete files"
    return InvalidRequest(message, code="limit_reached", param=param)


def no_room_for_results(settings: BatchSettings) -> InvalidRequest:
    """The error for a batch of a tenant that may have no more files."""
    return too_many_files(settings, "input_file_id", "and the batch would write more")


def too_large(settings: BatchSettings, space: int) -> PayloadTooLarge:
    """The error for a file that is larger than the space that its tenant has."""
    if space >= settings.max_file_bytes:
        message = f"file: at most {settings.max_file_bytes} bytes, got more"
    else:
        message = (
            f"file: your files, uploads and answers may hold {settings.tenant_bytes} bytes "
            f"together, and {max(0, space)} are left; delete files"
        )
    return PayloadTooLarge(message, param="file")


def unknown(kind: str, name: str) -> NotFound:
    """The error for a file or a batch that is not the tenant's."""
    return NotFound(f"{kind}_id: there is no {kind} {quote(name)}", param=f"{kind}_id")


def in_use(batch_id: str) -> InvalidRequest:
    """The error for the deletion of a file that this unfinished batch reads."""
    message = f"file_id: the batch {batch_id} reads it; cancel the batch first"
    return InvalidRequest(message, code="file_in_use", param="file_id")


def no_input(batch: Batch) -> InvalidRequest:
    """The error for a batch whose input file is not the tenant's."""
    return InvalidRequest(unknown("file", batch.input_file_id).message, param="input_file_id")


def not_for_batches(purpose: str) -> InvalidRequest:
    """The error for an input file of another purpose."""
    message = f"input_file_id: its purpose must be batch, got {purpose}"
    return InvalidRequest(message, param="input_file_id")


def too_many(settings: BatchSettings) -> InvalidRequest:
    """The error for one more unfinished batch than a tenant may have."""
    message = f"at most {settings.max_batches} unfinished batches, got one more; "
    return InvalidRequest(f"{message}wait, or cancel one", code="limit_reached")


def ended_already(batch: Batch) -> InvalidRequest:
    """The error for the cancellation of a batch that has ended."""
    message = f"batch_id: the batch has ended already, as {batch.status}"
    return InvalidRequest(message, param="batch_id")


def not_listed(after: str) -> InvalidRequest:
    """The error for a page after a record that is not in the list."""
    return InvalidRequest(f"after: no {quote(after)} in this list", param="after")
