"""The fields of a route's bodies, and the taking over of those that are read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import UnsupportedFeature
from service.limits.shape import Shape, pruned, unread
from service.quoting import nearest, quote
from service.settings.limits import LimitSettings


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one route: read, by their shape, without effect, or refused for a reason.

    `hints` are keys that are dropped at every level, `no_ops` values with which a field asks for
    what happens without it.
    """

    shape: Shape
    hints: frozenset[str]
    no_ops: Mapping[str, tuple[Any, ...]]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A body for vLLM's models, and the places of unknown fields that it was sent with."""

    body: dict[str, Any]
    ignored: tuple[str, ...]


def take(body: Mapping[str, Any], fields: Fields, limits: LimitSettings) -> Accepted:
    """The fields of a body that its route reads, not yet checked for their sizes.

    Nulls, hints and values that change nothing are left out, unknown fields too if the settings say
    so. Raises UnsupportedFeature for the first field that is unknown or not served.
    """
    shape = fields.shape
    if "chat_template_kwargs" in shape:
        shape = {**shape, "chat_template_kwargs": dict.fromkeys(limits.chat_template_kwargs)}
    asked = {name: value for name, value in body.items() if not _asks_nothing(name, value, fields)}
    unknown = list(unread(asked, shape, fields.hints))
    if unknown and limits.unknown_fields == "refuse":
        place, known = unknown[0]
        name = place.rpartition(".")[2]
        message = f"{place}: not a field of this route{nearest(name, known)}"
        raise UnsupportedFeature(message, param=place)
    ignored = sorted({re.sub(r"\[\d+\]", "[]", place) for place, _ in unknown})
    return Accepted(pruned(asked, shape), tuple(ignored))


def _asks_nothing(name: str, value: Any, fields: Fields) -> bool:
    """True for a top-level field to leave out; raises for a known one that is not served."""
    if value is None or name in fields.hints:
        return True
    no_op = fields.no_ops.get(name, ())
    if value in no_op and (name not in fields.shape or value == []):
        return True
    if name not in fields.shape and (reason := fields.refused.get(name)) is not None:
        only = f"; the only value is {json.dumps(no_op[0])}, got {quote(value)}" if no_op else ""
        raise UnsupportedFeature(f"{name}: not served, {reason}{only}", param=name)
    return False
