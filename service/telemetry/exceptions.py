"""Exceptions as text for a log."""

import traceback
from collections.abc import Iterator
from types import TracebackType


def format_exception(error: BaseException, *, withhold: bool) -> str:
    """The traceback of an exception and of its causes, the first cause first.

    With `withhold` only a message's type and length are shown, because a library's message may
    quote a prompt while a request is served.
    """
    parts = []
    for link in _chain(error):
        parts.append(_frames(link.__traceback__) + _told(link, withhold))
    return "\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception after all its causes; each once, since causes can form a circle."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    yield from reversed(seen)


def _frames(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace))


def _told(error: BaseException, withhold: bool) -> str:
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, BaseExceptionGroup):
        inner = (format_exception(each, withhold=withhold) for each in error.exceptions)
        return "\n".join([f"{kind} of {len(error.exceptions)}:", *inner])
    message = str(error)
    if not message:
        return kind
    return f"{kind}: {f'({len(message)} characters withheld)' if withhold else message}"
