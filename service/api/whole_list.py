"""An answer with a long list, whose items are rendered one by one.

Rendering all of it at once would block the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import to_json

from service.api.schemas.base import Listed, PageBody


class Named(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=Named)


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


async def page(
    kind: type[PageBody[Any]],
    of: Callable[[Record], Listed],
    records: Sequence[Record],
    has_more: bool,
) -> Response:
    """The answer with a page of records, each of which `of` makes an item of the list."""
    first, last = (records[0].id, records[-1].id) if records else (None, None)
    empty = kind(data=[], has_more=has_more, first_id=first, last_id=last)
    items = await rendered(map(of, records))
    return Response(with_data(empty, items), media_type="application/json")
