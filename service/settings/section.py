"""A part of the settings, and the form of names in it."""

from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

REDIS_ADDRESS = r"(rediss?|valkeys?|redis\+cluster|redis\+sentinel)://."
"""Beginning of the address of a Redis or Valkey, as a regular expression."""

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]


class Section(BaseModel):
    """A frozen part of the tree that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a key's type is, or is beside None."""
    kinds = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
    found = (each for each in kinds if isinstance(each, type) and issubclass(each, Section))
    return next(found, None)
