"""Settings of usage: what tenants used, by the hour."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from service.settings.adapters import PluginSection
from service.settings.section import REDIS_ADDRESS


class UsageSettings(PluginSection):
    """Settings of usage, which is stored only if a folder or a storage is set."""

    path: Path | None = Field(
        None,
        description="Folder of the counts, on a disk of this machine. Without it and `storage`, "
        "`/v1/usage` is not served.",
    )
    storage: str | None = Field(
        None,
        pattern=rf"^{REDIS_ADDRESS}",
        description="Redis or Valkey for all replicas, in place of `path`: an address as "
        "`quotas.storage`.",
    )
    keep_days: int = Field(400, ge=1, description="Days after which counts are removed.")

    @property
    def kept(self) -> bool:
        """True if usage is stored."""
        return self.path is not None or self.storage is not None

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if self.path is not None and self.storage is not None:
            raise ValueError("usage: set path or storage, not both")
        return self
