"""Settings of the sources of adapters and of batches' files."""

from typing import Annotated

from pydantic import Field

from service.settings.section import Section

Host = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$")]


class SourceSettings(Section):
    """Sources that are read by HTTP: web servers, the Hub, object stores and registries."""

    redirect_hosts: tuple[Host, ...] = Field(
        ("*",),
        description="Hosts to which a source may redirect, and a registry have its login, besides "
        "its own: `*.hf.co` is every name below, `*` every host, an empty list none. The Hub, "
        "registries and releases redirect to stores whose names change, so every host is the "
        "default. An https source is never followed to plain http.",
    )
