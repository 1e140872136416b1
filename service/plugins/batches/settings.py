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
        description="Folder of files, batches and answers, on a disk of this machine that survives "
        "restarts; without it `/v1/files` and `/v1/batches` are not served.",
    )
    files: str | None = Field(
        None,
        description="Object store for the files, `s3://bucket/folder`, `gs://...` or `az://...`, "
        "with credentials from its client's environment; without it they are in `path`.",
    )
    storage: str | None = Field(
        None,
        pattern=rf"^{REDIS_ADDRESS}",
        description="Redis or Valkey for the records of all replicas, in place of the database in "
        "`path`: an address as `quotas.storage`. Needs `files`.",
    )
    max_file_bytes: int = Field(
        100 << 20,
        ge=1024,
        description="Largest file, in bytes.",
    )
    max_lines: int = Field(
        50_000,
        ge=1,
        description="Lines in one batch, as many as OpenAI's.",
    )
    max_files: int = Field(
        1_000,
        ge=1,
        description="Files that one tenant may keep; then it may send no file and make no batch.",
    )
    tenant_bytes: int = Field(
        1 << 30,
        ge=1024,
        description="Bytes of one tenant's files, uploads and answers together. A batch whose "
        "tenant has no room waits.",
    )
    max_batches: int = Field(
        16,
        ge=1,
        description="Unfinished batches of one tenant; they run one after the other.",
    )
    max_ended: int = Field(
        1_000,
        ge=1,
        description="Ended batches of one tenant whose records are kept.",
    )
    max_running: int = Field(
        8,
        ge=1,
        description="Batches that this process runs at once, each of another tenant.",
    )
    max_window_h: int = Field(
        24 * 7,
        ge=1,
        description="Longest `completion_window`, in hours; an incomplete batch expires.",
    )
    keep_days: int = Field(
        30,
        ge=1,
        description="Days after which files and ended batches are removed; a file may ask for "
        "less.",
    )

    @model_validator(mode="after")
    def _shared_files(self) -> Self:
        if self.storage is not None and (self.files is None or self.path is None):
            raise ValueError("batches: storage needs files, which replicas share, and a path")
        return self
