"""Bodies of text-embeddings-inference: POST /embed, /rerank and /predict."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.encoders import Input, Pair
from service.engine.pooling import EncoderInfo
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import AnswerBody, Many, RequestBody
from service.limits.caps import check_entries, check_text
from service.routes.encoders import TRUNCATE, Tokens
from service.settings.limits import LimitSettings

_INPUTS = "inputs"
Texts = Annotated[list[str], Many]


class TeiRequest(RequestBody):
    """Fields that every one of these bodies has."""

    truncate: bool | None = Field(None, description=TRUNCATE)
    truncation_direction: Literal["right", "Right", "left", "Left"] = "right"

    def most_tokens(self, info: EncoderInfo) -> int | None:
        """Tokens that a text is cut to; UnsupportedFeature for a cut at its beginning."""
        if self.truncate and self.truncation_direction.lower() == "left":
            raise UnsupportedFeature(
                "truncation_direction: texts are cut at their end only, got "
                f"{self.truncation_direction}",
                param="truncation_direction",
            )
        return info.most_tokens(self.truncate)


class EmbedRequest(TeiRequest):
    """Texts or token ids to embed."""

    inputs: str | Texts | Tokens | Annotated[list[Tokens], Many]
    normalize: bool = Field(True, description="Give vectors of length 1; else as they are pooled.")
    dimensions: int | None = Field(
        None, ge=1, description="Shorter vectors; only encoders trained for it (Matryoshka)."
    )
    prompt_name: str | None = Field(
        None, max_length=64, description="The encoder's prompt that is put before each text."
    )


class TeiRerankRequest(TeiRequest):
    """A query, and the texts to order by how relevant they are to it."""

    query: str
    texts: Texts
    raw_scores: bool = Field(False, description="A cross-encoder's logits.")
    return_text: bool = Field(False, description="Repeat each text in its result.")

    def pairs(self, limits: LimitSettings) -> list[Pair]:
        """The query with each text; InvalidRequest for texts over a cap."""
        check_entries(len(self.texts), limits.pairs, "texts", "texts")
        check_text(self.query, "query", limits)
        for index, text in enumerate(self.texts):
            check_text(text, f"texts[{index}]", limits)
        return [(self.query, text) for text in self.texts]


class PredictRequest(TeiRequest):
    """A text or a pair of texts to classify, or a batch: a list of lists of one or two texts."""

    inputs: str | Texts | Annotated[list[Texts], Many] = Field(
        description='"text", ["first", "second"], or [["text"], ["first", "second"]]'
    )
    raw_scores: bool = Field(False, description="The head's logits.")

    @property
    def is_batch(self) -> bool:
        """True for a list of lists."""
        return isinstance(self.inputs, list) and isinstance(next(iter(self.inputs), None), list)

    def place(self, index: int) -> str:
        """The place of an input in the body."""
        return f"{_INPUTS}[{index}]" if self.is_batch else _INPUTS

    def listed(self, limits: LimitSettings) -> list[Input]:
        """The inputs as a list; InvalidRequest for none, too many, and texts over a cap."""
        given: list[Any] = list(self.inputs) if self.is_batch else [self.inputs]
        check_entries(len(given), limits.embedding_inputs, _INPUTS, "texts or pairs")
        return [_text_or_pair(each, self.place(at), limits) for at, each in enumerate(given)]


def _text_or_pair(given: str | list[str], place: str, limits: LimitSettings) -> Input:
    texts = [given] if isinstance(given, str) else given
    if len(texts) not in (1, 2):
        raise InvalidRequest(f"{place}: one text or two, got {len(texts)}", param=_INPUTS)
    for text in texts:
        check_text(text, place, limits)
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


class RankBody(AnswerBody):
    """One text: its place in the request, and its score."""

    index: int
    score: float
    text: str | None = None


class PredictionBody(AnswerBody):
    """One label and its score."""

    score: float
    label: str
