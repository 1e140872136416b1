"""Checks complete answers against the parts of a schema that the grammar does not enforce."""

from typing import Any

from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ValidationError
from pydantic_core import from_json

_PATTERNS = FancyRegexOptions(backtrack_limit=1_000)
"""Bounds the time of a pattern on one text; a text that needs more breaks its schema."""


class SchemaCheck:
    """Checks that answers are valid JSON under a schema."""

    def __init__(self, schema: Any) -> None:
        self._validator = Draft202012Validator(
            schema, validate_formats=True, pattern_options=_PATTERNS
        )

    def refuse(self, answer: str) -> str | None:
        """How an answer breaks its schema, worded as a refusal; None if it is valid."""
        try:
            self._validator.validate(from_json(answer))
        except ValidationError as error:
            place = "".join(f"/{step}" for step in error.instance_path) or "its root"
            return f"The answer breaks its schema at {place}: {error.message[:200]}"
        except ValueError:
            return "The answer breaks its schema: it is not JSON."
        return None
