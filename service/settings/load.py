"""The configuration file and the environment, read into the settings; and the settings, printed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from service.common.error_messages import nearest, problems
from service.common.plain_yaml import read_mapping
from service.errors import ConfigurationError
from service.settings.masking import hidden, masked
from service.settings.section import Section, section_of
from service.settings.tree import ENV_PREFIX, NESTING, Settings, settings_type

_SOURCE = "source"
"""The key of a folder or an address."""


def load_settings(file: Path) -> Settings:
    """Read and check the configuration of a file and the environment.

    Raises ConfigurationError with one line per problem, each naming the key, the value given and,
    for an unknown key, the nearest valid one.
    """
    tree = _read_tree(file)
    _refuse_unknown_variables()
    try:
        return Settings(**tree)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explain(error))
        raise ConfigurationError(f"{file}: the configuration is not valid:\n{lines}") from None
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}; it must be JSON") from error


def shown(settings: Settings) -> dict[str, Any]:
    """The tree as it may be printed, with secrets masked."""
    tree: dict[str, Any] = masked(settings.model_dump(mode="json"))
    return tree


def _read_tree(file: Path) -> dict[str, Any]:
    tree = read_mapping(file)
    for key in tree:
        if key.startswith("_"):  # the constructor would take it for its own option
            raise ConfigurationError(f"{file}: {key}: unknown key")
    _anchor_paths(tree, settings_type(), file.resolve().parent)
    return tree


def _anchor_paths(tree: dict[str, Any], kind: type[BaseModel], folder: Path) -> None:
    """Make the file's own paths relative to the file, wherever the service is started."""
    for name, field in kind.model_fields.items():
        kinds, given = list(_kinds(field.annotation)), tree.get(name)
        if isinstance(given, str) and "://" not in given and (Path in kinds or name == _SOURCE):
            tree[name] = os.path.normpath(folder / Path(given).expanduser())
        for section in (each for each in kinds if issubclass(each, Section)):
            for part in _parts(given, get_origin(field.annotation)):
                _anchor_paths(part, section, folder)


def _parts(given: Any, kind: Any) -> list[dict[str, Any]]:
    """The sections in a value: itself, or the items of its list, or of its mapping."""
    found = [given]
    if kind is dict:
        found = list(given.values()) if isinstance(given, dict) else []
    elif kind is tuple:
        found = given if isinstance(given, list) else []
    return [each for each in found if isinstance(each, dict)]


def _kinds(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for each in get_args(annotation):
        yield from _kinds(each)


def _refuse_unknown_variables() -> None:
    kind = settings_type()
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENV_PREFIX).lower().partition(NESTING)
        known: list[str] = list(kind.model_fields)
        if section in known:
            nested = section_of(kind.model_fields[section].annotation)
            if not key or nested is None:
                continue
            section, known = key.partition(NESTING)[0], list(nested.model_fields)
        if section not in known:
            hint = nearest(section, known)
            raise ConfigurationError(f"environment variable {variable}: unknown key{hint}")


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in problems(error.errors(include_url=False), settings_type()):
        value = masked(problem.value, str(problem.place[-1]) if problem.place else "")
        yield str(replace(problem, value=hidden(value) if isinstance(value, str) else value))
