"""Settings of usage: what tenants used, by the hour."""

from pathlib import Path

from pydantic import Field

from service.settings.section import Section


class UsageSettings(Section):
    """Counts of usage that are kept, which is off without a folder."""

    path: Path | None = Field(
        None,
        description="Folder of the counts, relative to this file; without it `/v1/usage` is not "
        "served. It must lie on a disk of this machine.",
    )
    keep_days: int = Field(400, ge=1, description="Days after which counts are removed.")
