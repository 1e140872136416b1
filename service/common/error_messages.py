"""Values and names shortened for messages: on one line, never a whole prompt."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from pydantic import BaseModel

UNKNOWN_FIELD = "unknown_field"
"""Type of a problem whose context holds the `name` of a field and those that are `known` there."""

Place = tuple[int | str, ...]
REQUIRED = "required"
_MAX_CHARS = 40
_LONGEST_NAME = 64
_MOST_ERRORS = 256


def quote(value: object) -> str:
    """A short form of any JSON value: scalars unchanged, long values by type and size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= _MAX_CHARS else f"{len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:_MAX_CHARS]


_WRITTEN_BY_GATEWAYS: Mapping[str, object] = {
    "include_reasoning": True,
    "separate_reasoning": True,
    "skip_special_tokens": True,
    "stream_reasoning": True,
}
"""Values that routers add to each body (vllm-router, smg, sglang-router)."""


def asks_nothing(name: str, value: object) -> bool:
    """True for an unknown field that has no effect: null, false, empty, or a gateway's own."""
    if value is None or value is False or value == []:
        return True
    return name in _WRITTEN_BY_GATEWAYS and value is _WRITTEN_BY_GATEWAYS[name]


_EXACT = 2.0**53
"""Below this every integer is a float, too."""


def as_integer(value: object) -> object:
    """An integer in place of a number such as 5.0, which is one in JSON Schema; else the value."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


def quote_name(name: str) -> str:
    """A field's name as the caller gave it, without quotes; cut when it is long."""
    shown = repr(name[:_MAX_CHARS])[1:-1]
    return shown if len(name) <= _MAX_CHARS else f"{shown}..."


def written(place: Place) -> str:
    """A place in OpenAI's form, `messages[1].content`; names are those that the caller gave."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{quote_name(part)}" if text else quote_name(part)
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name; nothing for none, or a name too long."""
    if len(name) > _LONGEST_NAME:
        return ""  # comparing a megabyte with every known name would take a fifth of a second
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that pydantic refuses: its place, the problem, and whether to show the value."""

    place: Place
    reason: str
    value: object
    telling: bool

    @property
    def field(self) -> str:
        """The place as it is written in messages; empty for the whole document."""
        return written(self.place)

    @property
    def given(self) -> str:
        """`, got VALUE`, or nothing."""
        return f", got {quote(self.value)}" if self.telling else ""

    def __str__(self) -> str:
        return f"{f'{self.field}: ' if self.place else ''}{self.reason}{self.given}"


def problems(
    errors: Iterable[Mapping[str, Any]], model: type[BaseModel] | None = None, *, root: int = 0
) -> Iterator[Problem]:
    """The problems of pydantic's `errors()`, in the wording of all messages.

    `model` is the validated model, for the nearest name of an unknown key. The first `root` parts
    of each place are left out.
    """
    for error in errors:
        place: Place = tuple(error["loc"][root:])
        value = error.get("input")
        match error["type"]:
            case kind if kind == UNKNOWN_FIELD:
                found = error["ctx"]
                reason = f"unknown field{nearest(found['name'], found['known'])}"
                yield Problem((*place, found["name"]), reason, value, telling=False)
            case "extra_forbidden":
                known = keys_at(model, place[:-1]) if model else []
                reason = f"unknown key{nearest(str(place[-1]), known)}"
                yield Problem(place, reason, value, telling=False)
            case "union_tag_not_found":
                yield Problem(_tag_of(place, error), REQUIRED, value, telling=False)
            case "union_tag_invalid":
                reason = f"must be one of {error['ctx']['expected_tags']}"
                yield Problem(_tag_of(place, error), reason, error["ctx"]["tag"], telling=True)
            case "missing":
                yield Problem(place, REQUIRED, value, telling=False)
            case kind:
                reason = error["msg"].removeprefix("Value error, ")
                reason = re.sub(r"^[A-Z]\w* should ", "must ", reason)
                reason = re.sub(r"^must be (True|False)$", lambda found: found[0].lower(), reason)
                reason = re.sub(r", unable to parse \w+ as an? \w+$", "", reason)
                reason = re.sub(
                    r"^must be a valid (dictionary|tuple|list|\w*set)\b.*", _plain, reason
                )
                told = kind == "value_error" and (", got " in reason or isinstance(value, dict))
                yield Problem(place, reason, value, telling=not told)


def problems_in(
    document: object, errors: Iterable[Mapping[str, Any]], *, root: int = 0
) -> list[Problem]:
    """The problems of a document at their places in it, with one problem for each union.

    pydantic reports errors for every member of a union and puts the member's name into the place.
    Only the errors of the member that fits the value best are kept. Only the first 256 errors are
    read.
    """
    unions: dict[Place, dict[int | str, Problem]] = {}
    for problem in problems(islice(errors, _MOST_ERRORS), root=root):
        placed, union, member = _placed(problem, document)
        unions.setdefault(union, {}).setdefault(member, placed)
    return [_of_members(members.values()) for members in unions.values()]


def _placed(problem: Problem, document: Any) -> tuple[Problem, Place, int | str]:
    """Resolve a problem's place in the document; also returns the first union there and its member.

    Without a union these are the whole place and an empty text.
    """
    place: Place = ()
    union: Place | None = None
    member: int | str = ""
    for number, part in enumerate(problem.place, 1):
        inside = _has(document, part)
        missing = problem.reason == REQUIRED and number == len(problem.place)
        if inside or missing or not place:
            document = document[part] if inside else None
            place = (*place, part)
        elif union is None:
            union, member = place, part
    return replace(problem, place=place), place if union is None else union, member


def _has(document: object, part: int | str) -> bool:
    if isinstance(document, list):
        return isinstance(part, int) and part < len(document)
    return isinstance(document, dict) and part in document


def _of_members(members: Collection[Problem]) -> Problem:
    """Merge the problems of a union's members into one: those of the members that read furthest."""
    furthest = max(members, key=_reach)
    first, *others = dict.fromkeys(each.reason for each in members if each.place == furthest.place)
    reasons = (first, *(reason.removeprefix("must be ") for reason in others))
    return replace(furthest, reason=" or ".join(reasons))


def _reach(problem: Problem) -> tuple[int, bool, list[int]]:
    """Sort key: how deep a member read, whether it only lacked a key, and its index in a list."""
    last = [part for part in problem.place[-1:] if isinstance(part, int)]
    return len(problem.place), problem.reason == REQUIRED, last


def _tag_of(place: Place, error: Mapping[str, Any]) -> Place:
    """The place of the key that a union's members are told apart by."""
    return (*place, error["ctx"]["discriminator"].strip("'"))


def _plain(kind: re.Match[str]) -> str:
    """pydantic's names of Python's types in the words of JSON and YAML."""
    return "must be an object with keys" if kind[1] == "dictionary" else "must be a list"


def keys_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The keys that a model knows at a place; none if the place has no model."""
    for part in place:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:
            found = _model_in(fields[str(part)].annotation)
            if found is None:
                return []
            model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, getattr(annotation, "__args__", ()))), None)
