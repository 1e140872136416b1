"""The description of the public app, which `/docs` shows and from which clients are generated."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI

from service.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    HeadersTooLarge,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RangeNotSatisfiable,
    RequestTimeout,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from service.http import streams
from service.http.auth import OPEN_PATHS
from service.http.bodies import AnthropicErrorBody, ErrorBody
from service.http.exchange import ANTHROPIC_PATHS
from service.routes.examples import ENCODER_EXAMPLES, EXAMPLES, OWN_EXAMPLES
from service.settings.tree import Settings

_REFERENCE = "#/components/schemas/{model}"
_JSON = "application/json"

_MODEL = "/v1/models/{name}"
_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_ANY: tuple[type[ServiceError], ...] = (
    *(InvalidRequest, Forbidden, NotFound, HeadersTooLarge, TooManyRequests),
    *(ServiceError, Unavailable, DeadlineExceeded),
)
_OF_BODIES: tuple[type[ServiceError], ...] = (RequestTimeout, PayloadTooLarge, UnsupportedMediaType)
_OF_PATHS: Mapping[str, tuple[type[ServiceError], ...]] = {
    "/v1/feedback": (Conflict,),
    "/v1/files/{file_id}/content": (RangeNotSatisfiable,),
}
_PARTS = {
    streams.MEDIA_TYPE: "its events as they come, if `stream` is true",
    streams.NDJSON_MEDIA_TYPE: "its results as they come, a line each, if `Accept` asks for it",
}
"""Kinds of answers in parts. They have no schema: OpenAPI 3.1 has none for a single part."""

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer"},
    }
}
_NOT_ANSWERED = ("HTTPValidationError", "ValidationError")
"""FastAPI's own errors, in whose place the service's are sent."""


def describe(app: FastAPI, settings: Settings, *, with_keys: bool) -> None:
    """Complete the schema that FastAPI makes of the app's routes and keeps.

    Every body gets its examples with the name of the base model or of an encoder, every route its
    errors, and all but the open ones the keys that they need.
    """
    model = None if settings.model is None else settings.model.name
    encoder = settings.encoders[0].name if settings.encoders else None
    document = app.openapi()
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _NOT_ANSWERED:
        schemas.pop(name, None)
    for shown in (ErrorBody, AnthropicErrorBody):
        found = shown.model_json_schema(ref_template=_REFERENCE)
        schemas |= {**found.pop("$defs", {}), shown.__name__: found}
    if with_keys:
        components["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _describe(operation, path, model or encoder)
            _add_examples(operation, _with_model(EXAMPLES.get(path, {}), model))
            _add_examples(operation, _with_model(ENCODER_EXAMPLES.get(path, {}), encoder))
            _add_examples(operation, OWN_EXAMPLES.get(path, {}))
            errors = _errors(operation, path, with_keys)
            operation["responses"] |= _error_answers(errors, path)
            if with_keys:
                either: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
                operation["security"] = [] if path in OPEN_PATHS else either


def _describe(operation: dict[str, Any], path: str, model: str | None) -> None:
    """Complete the bodies of one operation."""
    operation["responses"].pop("422", None)
    answer = operation["responses"].get("200", {})
    content = answer.get("content", {})
    if path == _MODEL:
        operation["parameters"][0]["example"] = model
    for kind in content.keys() & _PARTS.keys():
        answer["description"] = f"The whole answer, or {_PARTS[kind]}."


def _with_model(examples: Mapping[str, Any], model: str | None) -> Mapping[str, Any]:
    if model is None:
        return {}
    return {title: {"model": model, **example} for title, example in examples.items()}


def _add_examples(operation: dict[str, Any], examples: Mapping[str, Any]) -> None:
    if examples:
        operation["requestBody"]["content"][_JSON]["examples"] = {
            title: {"value": example} for title, example in examples.items()
        }


def _errors(operation: dict[str, Any], path: str, with_keys: bool) -> list[type[ServiceError]]:
    more = _OF_BODIES if "requestBody" in operation else ()
    more += _OF_PATHS.get(path, ())
    keys = (Unauthenticated,) if with_keys else ()
    return sorted((*_ANY, *more, *keys), key=lambda error: error.status)


def _error_answers(errors: Iterable[type[ServiceError]], path: str) -> dict[str, Any]:
    shape = AnthropicErrorBody if path in ANTHROPIC_PATHS else ErrorBody
    content = {_JSON: {"schema": _reference(shape.__name__)}}
    return {
        str(error.status): {
            "description": (error.__doc__ or "").partition("\n")[0],
            "content": content,
            **({"headers": _RETRY_AFTER} if error in (TooManyRequests, Unavailable) else {}),
        }
        for error in errors
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}
