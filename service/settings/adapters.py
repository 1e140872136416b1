"""Settings of adapters, and the interface by which plugins' settings are checked."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from service.settings.section import Section, ServedName

MOST_LISTED = 4096
"""Adapters of one list."""


class AdapterSettings(Section):
    """A fine-tuned adapter, verified, loaded and proven before the service is ready."""

    source: str = Field(
        min_length=1,
        description="Folder of the adapter, or its address: `hf://`, `s3://`, `gs://`, `az://`, "
        "`https://`, `oci://`.",
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
    show_examples: bool | None = Field(
        None,
        description="Show up to three golden inputs in `GET /v1/adapters` and the console, to "
        "callers who may use it. Default: only without keys on the loopback.",
    )


class ListedAdapter(AdapterSettings):
    """An adapter of a list, which may change while the service runs."""

    name: ServedName = Field(description="Name that requests use in `model`.")
    required: Literal[False] = Field(
        False, description="Always false: an adapter of a list ends no start."
    )


class AdapterList(Section):
    """The adapters to serve, by a file of their own (docs/adapters.md)."""

    adapters: tuple[ListedAdapter, ...] = Field(max_length=MOST_LISTED)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, count in Counter(each.name for each in self.adapters).items():
            if count > 1:
                raise ValueError(f"adapters: the name {name!r} is given {count} times")
        return self

    @property
    def digest(self) -> str:
        """The sha256 of what is listed, whatever the order and wherever the file is."""
        listed = sorted((each.model_dump() for each in self.adapters), key=itemgetter("name"))
        return "sha256:" + hashlib.sha256(json.dumps(listed).encode()).hexdigest()


class AdapterCacheSettings(Section):
    """Folder of fetched adapters."""

    path: Path = Field(
        Path(".cache/adapters"),
        description="Folder of the cache.",
    )
    offline: bool = Field(False, description="Contact no source; serve from the cache only.")
    proofs: bool = Field(
        True,
        description="Record here, authenticated by a key, which adapters were proven. A later "
        "start asks golden examples again only if adapter, base, engine, its settings, processor "
        "or this service changed, or the fingerprint differs.",
    )
    unused_days: float = Field(
        7.0,
        ge=0,
        description="Days after which a start or reload removes an entry that no running service "
        "uses.",
    )


class PlannedAdapter(NamedTuple):
    """Another version of a configured adapter, and the setting that names it."""

    wanted: AdapterSettings
    place: str


class PluginSection(Section):
    """The settings of a plugin; found by the entry points of the group `llm_service.settings`."""

    def check(self, settings: Any) -> None:
        """Raise ValueError if this section conflicts with other settings."""

    def planned_adapters(self) -> Mapping[str, PlannedAdapter]:
        """Further versions of configured adapters to load, by the adapter's name."""
        return {}


class TrustSettings(Section):
    """Signatures of adapters, checked before an adapter is loaded."""

    keys: Path | None = Field(
        None,
        description="Public key in PEM, or folder of such keys (`*.pem`). A signed adapter must be "
        "signed by one of them.",
    )
    require: bool = Field(
        False, description="Refuse adapters that have no signature; needs `keys`."
    )

    @model_validator(mode="after")
    def _keys_to_require(self) -> Self:
        if self.require and self.keys is None:
            raise ValueError("require: needs keys to check signatures against")
        return self


Host = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$")]


class SourceSettings(Section):
    """Sources that are read by HTTP: web servers, the Hub, object stores and registries."""

    redirect_hosts: tuple[Host, ...] = Field(
        ("*",),
        description="Hosts to which a source may redirect, and a registry have its login, besides "
        "its own: `*.hf.co` is every name below, `*` every host. An https source is never followed "
        "to plain http.",
    )
