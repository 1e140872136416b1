"""Whole answers checked against what the grammar of their schema leaves out."""

from typing import Any

from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ValidationError
from pydantic_core import from_json

_PATTERNS = FancyRegexOptions(backtrack_limit=1_000)
"""Bounds the time of a pattern on one text; a text that needs more breaks its schema."""


class SchemaCheck:
    """Checks answers that are values of a schema."""

    def __init__(self, schema: Any) -> None:
        self._validator = Draft202012Validator(
            schema, validate_formats=True, pattern_options=_PATTERNS
        )

    def refuse(self, answer: str) -> str | None:
        """How an answer breaks its schema, as the text of a refusal; None if it does not."""
        try:
            self._validator.validate(from_json(answer))
        except ValidationError as error:
            place = "".join(f"/{step}" for step in error.instance_path) or "its root"
            return f"The answer breaks its schema at {place}: {error.message[:200]}"
        except ValueError:
            return "The answer breaks its schema: it is not JSON."
        return None
