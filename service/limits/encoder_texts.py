"""Caps on the texts of a request to an encoder."""

from service.engine.text_size import size_of
from service.errors import InvalidRequest
from service.settings.limits import LimitSettings


def check_text(text: str, place: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest, naming its place in the body, for an empty text or too long a one."""
    size = size_of(text)
    if not 1 <= size <= limits.encoder_input_bytes:
        raise InvalidRequest(
            f"{place}: 1..{limits.encoder_input_bytes} bytes, got {size}",
            param=place.partition("[")[0],
        )


def check_values(count: int, width: int, field: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest for embeddings that hold more numbers than one request may ask for."""
    if count * width > limits.embedding_values:
        raise InvalidRequest(
            f"{field}: at most {limits.embedding_values} numbers, got {count} texts of {width} "
            "dimensions",
            param=field,
        )


def check_entries(count: int, most: int, field: str, noun: str) -> None:
    """Raise InvalidRequest for no entries of a field, or more than `most`; `noun` names them."""
    if not 1 <= count <= most:
        raise InvalidRequest(f"{field}: 1..{most} {noun}, got {count}", param=field)
