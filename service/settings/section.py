"""A part of the settings, and the form of names in it."""

from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from service.settings.adapters import PlannedAdapter
    from service.settings.tree import CoreSettings

REDIS_ADDRESS = r"(rediss?|valkeys?|redis\+cluster|redis\+sentinel)://."
"""Beginning of the address of a Redis or Valkey, as a regular expression."""

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]


class Section(BaseModel):
    """A frozen part of the tree that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PluginSection(Section):
    """The settings of a plugin; found by the entry points of the group `llm_service.settings`."""

    def check(self, settings: "CoreSettings") -> None:
        """Raise ValueError for what does not fit the other settings."""

    def planned_adapters(self) -> Mapping[str, "PlannedAdapter"]:
        """Further versions of configured adapters to load, by the adapter's name."""
        return {}


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a key's type is, or is beside None."""
    kinds = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
    found = (each for each in kinds if isinstance(each, type) and issubclass(each, Section))
    return next(found, None)
