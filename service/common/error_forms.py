"""How each API shows errors on its paths."""

from typing import Any, ClassVar

from pydantic import BaseModel

from service.errors import ServiceError


class ErrorForm:
    """How an API shows errors on its paths; this one is the service's own."""

    id_header: ClassVar[str] = ""
    """Another header with the request's id, on every answer."""
    schema: ClassVar[type[BaseModel] | None] = None
    """The model of `body`, for the API's description; None for that of the service's own."""

    def body(self, error: ServiceError, request_id: str) -> dict[str, Any]:
        """The body of an error."""
        return error.body(request_id)

    def event(
        self, error: ServiceError, request_id: str, number: int
    ) -> tuple[str | None, dict[str, Any]]:
        """The name, if any, and the value of the error event that ends a stream."""
        return None, self.body(error, request_id)


_OWN_FORM = ErrorForm()
ERROR_FORMS: dict[str, ErrorForm] = {}
"""Forms of errors by path; plugins add those of their own."""


def error_form(path: str) -> ErrorForm:
    """The form of errors on a path."""
    return ERROR_FORMS.get(path, _OWN_FORM)
