"""Settings of the routes of text-embeddings-inference."""

from typing import TYPE_CHECKING

from pydantic import Field

from service.common.error_messages import nearest
from service.settings.adapters import PluginSection
from service.settings.section import ServedName

if TYPE_CHECKING:
    from service.settings.tree import Settings


class TeiSettings(PluginSection):
    """Routes in the form of text-embeddings-inference (TEI), whose requests name no model."""

    embed: ServedName | None = Field(
        None,
        description="Name of the encoder that `/embed` asks; without one the route is off.",
    )
    rerank: ServedName | None = Field(
        None, description="Name of the encoder that `/rerank` asks: for scores, or for embeddings."
    )
    predict: ServedName | None = Field(
        None, description="Name of the encoder that `/predict` asks: one with a trained head."
    )

    @property
    def names(self) -> dict[str, str]:
        """The configured encoders, by the setting that names each."""
        return {key: name for key, name in self if name is not None}

    def check(self, settings: "Settings") -> None:
        names = [each.name for each in settings.encoders]
        for key, name in self.names.items():
            if name not in names:
                raise ValueError(
                    f"tei.{key}: no encoder has the name {name!r}{nearest(name, names)}"
                )
