"""Bodies of POST /v1/moderations, as OpenAI's."""

from typing import Annotated, Literal

from pydantic import Field

from service.errors import InvalidRequest
from service.http.bodies import AnswerBody, EngineBody, Many, RequestBody
from service.limits.caps import check_entries
from service.settings.limits import LimitSettings


class ModerationPart(RequestBody):
    """A part of one input."""

    type: Literal["text"]
    text: str


class ModerationRequest(EngineBody):
    """Texts that guards judge."""

    input: str | Annotated[list[str], Many] | Annotated[list[ModerationPart], Many] = Field(
        description="One text, a list of texts, or one text in parts."
    )
    model: str | None = Field(None, description="One guard; default every guard of the key.")

    def texts(self, limits: LimitSettings) -> list[str]:
        """The texts as a list; InvalidRequest for none, too many, and blank ones."""
        given = [self.input] if isinstance(self.input, str) else self.input
        check_entries(len(given), limits.classify_inputs, "input", "texts")
        parts = [each.text for each in given if isinstance(each, ModerationPart)]
        texts = ["\n".join(parts)] if parts else [each for each in given if isinstance(each, str)]
        for index, text in enumerate(texts):
            if not text.strip():
                raise InvalidRequest(f"input[{index}]: a text that is not blank", param="input")
        return texts


class ModerationBody(AnswerBody):
    """Findings about one text; a category is a guard and one of its labels: `guard/label`."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationAnswer(AnswerBody):
    """Findings in the order of the texts; `model` names the guards."""

    id: str
    model: str
    results: list[ModerationBody]
