"""Bodies of POST /v1/embeddings, as OpenAI's."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.schemas.base import AnswerBody, Many, RequestBody, ServiceTier
from service.encoders.passages import Input
from service.engine.pooling import EncoderInfo, Pooled
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.encoder_texts import check_count, check_text, check_values
from service.settings.limits import LimitSettings

Tokens = Annotated[list[int], Many]
TRUNCATE = "Cut a longer text to the encoder's context, at its end; else it is refused."


class EmbeddingsRequest(RequestBody):
    """Texts, or the caller's own tokens, to embed."""

    model: str = Field(description="An encoder for embeddings.")
    input: str | Annotated[list[str], Many] | Tokens | Annotated[list[Tokens], Many] = Field(
        description="One text, a list of texts, the token ids of one text, or a list of these. "
        "Token ids are read as they are, without special tokens beside them."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, ge=1, description="Shorter vectors; only encoders trained for it (Matryoshka)."
    )
    truncate: bool = Field(False, description=TRUNCATE)
    user: str | None = Field(None, max_length=512, description="Not read.")
    timeout_ms: int | None = Field(None, ge=1, description="Deadline, waiting included.")
    service_tier: ServiceTier = None

    def inputs(self, info: EncoderInfo, limits: LimitSettings) -> list[Input]:
        """The inputs as a list; InvalidRequest for none, too many, and empty or too long ones."""
        given = self._listed
        check_count(len(given), limits.embedding_inputs, "input", "texts")
        check_values(len(given), self.dimensions or info.width, "input", limits)
        for index, each in enumerate(given):
            if isinstance(each, str):
                check_text(each, self.place(index), limits)
            elif not each:
                raise InvalidRequest(f"{self.place(index)}: no tokens", param="input")
        return given

    @property
    def _listed(self) -> list[Input]:
        if isinstance(self.input, str):
            return [self.input]
        given: list[Any] = self.input
        return [given] if given and isinstance(given[0], int) else given

    def place(self, index: int) -> str:
        """The place of an input in the body."""
        return f"input[{index}]" if self._listed is self.input else "input"

    def check_dimensions(self, info: EncoderInfo) -> None:
        """Raise for a length that the encoder was not trained to be cut to."""
        if self.dimensions is None:
            return
        if info.dimensions is None:
            raise UnsupportedFeature(
                f"dimensions: the embeddings of this encoder have {info.width} and cannot be cut "
                f"(it is no Matryoshka model), got {self.dimensions}",
                param="dimensions",
            )
        if self.dimensions not in info.dimensions:
            raise InvalidRequest(
                f"dimensions: must be {_shown(info.dimensions)}, got {self.dimensions}",
                param="dimensions",
            )


def _shown(dimensions: Sequence[int]) -> str:
    if isinstance(dimensions, range):
        return f"{dimensions[0]}..{dimensions[-1]}"
    return f"one of {', '.join(map(str, dimensions))}"


class EmbeddingBody(AnswerBody):
    """One embedding: numbers, or their 32-bit floats, little endian, in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str

    @classmethod
    def of(
        cls, index: int, pooled: Pooled, encoding: Literal["float", "base64"]
    ) -> "EmbeddingBody":
        """The embedding of an input."""
        values = pooled.values.astype("<f4", copy=False)
        if encoding == "base64":
            return cls(index=index, embedding=base64.b64encode(values.tobytes()).decode())
        return cls.model_construct(index=index, embedding=values.tolist())


class EncoderUsage(AnswerBody):
    """Tokens that the encoder read."""

    prompt_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, pooled: Sequence[Pooled]) -> "EncoderUsage":
        """The tokens of all passages."""
        tokens = sum(each.prompt_tokens for each in pooled)
        return cls(prompt_tokens=tokens, total_tokens=tokens)


class EmbeddingsAnswer(AnswerBody):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingBody]
    usage: EncoderUsage
