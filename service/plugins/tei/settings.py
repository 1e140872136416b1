"""Settings of the routes of text-embeddings-inference."""

from pydantic import Field

from service.settings.section import Section, ServedName


class TeiSettings(Section):
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
        """The encoders by key, of the keys that are set."""
        return {key: name for key, name in self if name is not None}
