"""Settings of adapters, and what the settings of plugins may ask of the whole."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field

from service.settings.section import Section, ServedName


class AdapterSettings(Section):
    """A fine-tuned adapter, verified, loaded and proven before the service is ready."""

    source: str = Field(
        min_length=1,
        description="Folder of the adapter, relative to this file, or its address: `hf://`, "
        "`s3://`, `gs://`, `az://`, `https://`, `oci://`.",
    )
    name: ServedName | None = Field(
        None, description="Name that requests use in `model`; default the manifest's own."
    )
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Digest of the manifest; an adapter with another one is refused.",
    )
    required: bool = Field(
        True, description="If it fails: true follows `adapters_on_failure`, false quarantines it."
    )


class PlannedAdapter(NamedTuple):
    """A further version of a configured adapter, and the setting that plans it."""

    wanted: AdapterSettings
    place: str


class PluginSection(Section):
    """The settings of a plugin; found by the entry points of the group `llm_service.settings`."""

    def check(self, settings: Any) -> None:
        """Raise ValueError for what does not fit the other settings."""

    def planned_adapters(self) -> Mapping[str, PlannedAdapter]:
        """Further versions of configured adapters to load, by the adapter's name."""
        return {}
