"""Description of keys in the schema, so that the documentation page can send one."""

from typing import Any

from fastapi import FastAPI

from service.api.entrance import OPEN_PATHS

_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def declare_keys(app: FastAPI) -> None:
    """Say in the app's schema that every route but the open ones needs a key."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build()
        schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
        either: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN_PATHS else either
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
