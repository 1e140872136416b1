"""An answer with a long list, whose items are rendered one by one."""

from collections.abc import Iterable

from pydantic import BaseModel
from pydantic_core import to_json


def with_data(empty: BaseModel, items: Iterable[bytes]) -> bytes:
    """The JSON of an answer whose `data` is an empty list, with these items in it.

    Rendering all of a long list at once would block the event loop.
    """
    before, _, after = to_json(empty).partition(b'"data":[]')
    return b"".join((before, b'"data":[', b",".join(items), b"]", after))
