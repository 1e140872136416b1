"""An answer with a long list, whose items are rendered one by one.

Rendering all of it at once would block the event loop.
"""

import asyncio
from collections.abc import Iterable

from pydantic import BaseModel
from pydantic_core import to_json


async def rendered(items: Iterable[object]) -> list[bytes]:
    """The items in JSON, made and rendered one by one; other tasks may run in between."""
    done = []
    for item in items:
        done.append(to_json(item))
        await asyncio.sleep(0)
    return done


def with_data(empty: BaseModel, items: Iterable[bytes]) -> bytes:
    """The JSON of an answer whose `data` is an empty list, with these items in it."""
    before, _, after = to_json(empty).partition(b'"data":[]')
    return b"".join((before, b'"data":[', b",".join(items), b"]", after))
