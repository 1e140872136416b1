"""Settings of batches: files of requests that are answered in the background."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from service.settings.adapters import PluginSection
from service.settings.section import REDIS_ADDRESS


class BatchSettings(PluginSection):
    """Settings of files and batches, which are off without a folder."""

    path: Path | None = Field(
        None,
        description="Folder of files, batches and answers, relative to this file; without it "
        "`/v1/files` and `/v1/batches` are not served. It must survive a restart and lie on a disk "
        "of this machine: a network's file system is refused.",
    )
    files: str | None = Field(
        None,
        description="Address of an object store for the files, `s3://bucket/folder`, `gs://...` or "
        "`az://...`, with credentials from its client's environment; without it they are in "
        "`path`. Batches, their answers until they end, and uploads until they are complete stay "
        "in `path`.",
    )
    storage: str | None = Field(
        None,
        pattern=rf"^{REDIS_ADDRESS}",
        description="Store of the records that all replicas share, in the place of the database "
        "in `path`: an address as that of `quotas.storage`, of a Redis or Valkey that keeps its "
        "data on disk and evicts none. It needs `files`; nothing in `path` must survive then.",
    )
    max_file_bytes: int = Field(
        100 << 20,
        ge=1024,
        description="Largest file, in bytes. It is never held in memory, but every byte of it is "
        "read again at each restart during its batch.",
    )
    max_lines: int = Field(
        50_000,
        ge=1,
        description="Lines in one batch, as many as OpenAI's. The custom ids of a batch are held "
        "in memory while it is validated.",
    )
    max_files: int = Field(
        1_000,
        ge=1,
        description="Files that one tenant may keep, so that lists stay short. Beyond them it may "
        "send no file and make no batch; batches that were made before still write their results.",
    )
    tenant_bytes: int = Field(
        1 << 30,
        ge=1024,
        description="Bytes that one tenant's files, uploads under way and answers may hold "
        "together, on a disk that all tenants share. A batch whose tenant has no room waits until "
        "files are deleted.",
    )
    max_batches: int = Field(
        16,
        ge=1,
        description="Unfinished batches of one tenant; they run one after the other, so more would "
        "only wait.",
    )
    max_ended: int = Field(
        1_000,
        ge=1,
        description="Ended batches of one tenant whose records are kept; a new batch takes the "
        "place of the oldest one beyond. Their result files stay as long as other files.",
    )
    max_running: int = Field(
        8,
        ge=1,
        description="Batches that this process runs at once, each of another tenant. Each holds "
        "as many lines in memory as background work may have slots, and two more.",
    )
    max_window_h: int = Field(
        24 * 7,
        ge=1,
        description="Longest `completion_window`, in hours; a batch that is not complete expires.",
    )
    keep_days: int = Field(
        30,
        ge=1,
        description="Days after which files, and batches that ended, are removed; a file may ask "
        "for less.",
    )

    @model_validator(mode="after")
    def _shared_files(self) -> Self:
        if self.storage is not None and (self.files is None or self.path is None):
            raise ValueError("batches: storage needs files, which replicas share, and a path")
        return self
