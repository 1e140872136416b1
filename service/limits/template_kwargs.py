"""Caps on the variables of a chat template that a request sets."""

from collections.abc import Mapping
from typing import Any

from service.engine.text_size import size_of
from service.errors import InvalidRequest
from service.quoting import quote

_TEXT_BYTES = 256


def check_template_kwargs(kwargs: Mapping[str, Any] | None) -> None:
    """Raise for values that a template could spend time on: it gets switches and short texts."""
    for key, value in (kwargs or {}).items():
        where = f"chat_template_kwargs.{key}"
        if not isinstance(value, bool | int | float | str):
            message = f"{where}: must be a text, a number, true or false, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        if isinstance(value, int) and value.bit_length() > 63:
            message = f"{where}: an integer must fit into 64 bits, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        if isinstance(value, str) and (size := size_of(value)) > _TEXT_BYTES:
            message = f"{where}: at most {_TEXT_BYTES} bytes, got {size}"
            raise InvalidRequest(message, param=where)
