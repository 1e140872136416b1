"""Checks of single values in the bodies of OpenAI's and Anthropic's APIs."""

from typing import Any

from service.engine.text_size import size_of
from service.errors import InvalidRequest
from service.quoting import quote

_TEMPLATE_TEXT_BYTES = 256
LEAST_PENALTY = 0.01
"""The least penalty of repetitions with which every logit stays a number."""
_MOST_PENALTY = 100.0


def check_model(value: Any) -> None:
    """Raise unless the value is a text."""
    if not isinstance(value, str):
        raise InvalidRequest(f"model: required, a string, got {quote(value)}", param="model")


def check_count(value: Any, least: int, limit: int, name: str) -> None:
    """Raise unless the value is absent, true, false, or an integer in `least`..`limit`."""
    if isinstance(value, bool) or value is None:
        return
    if not isinstance(value, int) or not least <= value <= limit:
        raise InvalidRequest(f"{name}: must be {least}..{limit}, got {quote(value)}", param=name)


def check_positive(value: int | None, name: str) -> None:
    """Raise for an integer below 1, which vLLM would refuse under the name `max_tokens`."""
    if value is not None and value < 1:
        raise InvalidRequest(f"{name}: must be at least 1, got {quote(value)}", param=name)


def check_repetition_penalty(value: Any) -> None:
    """Raise unless the value is absent, or a number with which logits stay numbers.

    vLLM takes any above 0. Logits are float32, whose range 1e308 and 1e-300 leave. Beside a grammar
    the engine then took a token that the grammar does not allow, and ended the request.
    """
    if value is None or (
        isinstance(value, int | float) and LEAST_PENALTY <= value <= _MOST_PENALTY
    ):
        return
    name, bounds = "repetition_penalty", f"{LEAST_PENALTY:g}..{_MOST_PENALTY:g}"
    raise InvalidRequest(f"{name}: must be a number in {bounds}, got {quote(value)}", param=name)


def check_type(value: Any, kind: type, name: str, wanted: str) -> None:
    """Raise unless the value is absent or of exactly this type: vLLM would also read "16"."""
    if value is not None and type(value) is not kind:
        raise InvalidRequest(f"{name}: must be {wanted}, got {quote(value)}", param=name)


def check_length(value: Any, limit: int, name: str) -> None:
    """Raise for a list or object of more than `limit` entries."""
    if isinstance(value, list | dict) and len(value) > limit:
        raise InvalidRequest(f"{name}: at most {limit} entries, got {len(value)}", param=name)


def check_integers(value: Any, name: str) -> None:
    """Raise for an integer that the message to the engine cannot hold (msgpack: 64 bits)."""
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, int) and entry.bit_length() > 63:
            raise InvalidRequest(
                f"{name}: an integer must fit into 64 bits, got {quote(entry)}", param=name
            )


def check_texts(value: Any, limit: int, name: str) -> None:
    """Raise for a text, alone or in a list, of more than `limit` bytes."""
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            continue
        if (size := size_of(entry)) > limit:
            raise InvalidRequest(f"{name}: at most {limit} bytes, got {size}", param=name)


def check_stops(stop: Any, name: str) -> None:
    """Raise for stops that are no texts, since vLLM's model, which takes 4 at most, sees none."""
    texts = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if wrong := [each for each in texts if not isinstance(each, str) or not each]:
        raise InvalidRequest(
            f"{name}: must be a text or a list of texts, none empty, got {quote(wrong[0])}",
            param=name,
        )


def check_template_kwargs(kwargs: Any) -> None:
    """Raise for values that a template could spend time on: it gets switches and short texts."""
    name = "chat_template_kwargs"
    if kwargs is not None and not isinstance(kwargs, dict):
        raise InvalidRequest(f"{name}: must be an object, got {quote(kwargs)}", param=name)
    for key, value in (kwargs or {}).items():
        where = f"{name}.{key}"
        if not isinstance(value, bool | int | float | str):
            message = f"{where}: must be a text, a number, true or false, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        check_integers(value, where)
        check_texts(value, _TEMPLATE_TEXT_BYTES, where)
