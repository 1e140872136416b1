"""Reads the settings from a file and the environment, and prints them."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from service.common.error_messages import nearest, problems
from service.common.files import read_texts
from service.common.plain_yaml import parse, read_mapping
from service.errors import ConfigurationError
from service.settings.adapters import AdapterList
from service.settings.names import ENV_PREFIX, NESTING, OLD_SECTIONS
from service.settings.section import Section, section_of
from service.settings.tree import Settings, settings_type

_log = logging.getLogger(__name__)


MASK = "********"
_SECRET = re.compile(
    r"(^|_)(token|password|passwd|passphrase|secret|credentials?|auth|authorization"
    r"|(api_?|access_?|private_?|secret_?|^)key)$",
    re.I,
)
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*:/{1,2})(?P<rest>.*)", re.I | re.S)
_PORT = re.compile(r"[^@:]+(:[0-9]*)?|\[[^]]*\](:[0-9]*)?")


def masked(value: Any, name: str = "") -> Any:
    """The value of a setting, masked if its name marks a secret or the value holds one.

    For `storage`, the address of the quota store, only the scheme is kept.
    """
    if isinstance(value, dict):
        return {key: masked(child, str(key)) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [masked(child, name) for child in value]
    if value is not None and _SECRET.search(name.replace("-", "_")):
        return MASK
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("{", "[")):
        return _masked_json(value)
    return hidden(value) if name == "storage" else _masked_address(value)


def hidden(value: str) -> str:
    """An address reduced to its scheme; for invalid ones, whose secret parts cannot be found."""
    match = _ADDRESS.fullmatch(value)
    if match is not None and match["rest"]:
        return f"{match['scheme']}{MASK}"
    return MASK if re.search(r":.*@", value, re.S) else value


def _masked_address(value: str) -> str:
    """An address without user, password and query.

    A password may contain any character, so it ends at the last `@`. If the text before the first
    slash looks like a host and a port, there is no password, because a path may contain an `@` too.
    """
    match = _ADDRESS.fullmatch(value)
    if match is None:
        return value
    rest, query, _ = match["rest"].partition("?")
    if "@" in match["rest"] and not _PORT.fullmatch(re.split("[/?#]", rest, maxsplit=1)[0]):
        # The question mark may be the password's.
        _, _, rest = match["rest"].rpartition("@")
        rest, query, _ = rest.partition("?")
        rest = f"{MASK}@{rest}"
    return f"{match['scheme']}{rest}" + (f"?{MASK}" if query else "")


def _masked_json(value: str) -> str:
    try:
        return json.dumps(masked(json.loads(value)))
    except ValueError:
        return MASK


_SOURCE = "source"
"""The key whose value is the path of a folder or an address."""


def load_settings(file: Path) -> Settings:
    """Read and check the configuration of a file and the environment.

    Raises ConfigurationError with one line per problem, each naming the key, the value given and,
    for an unknown key, the nearest valid one.
    """
    tree = _read_tree(file)
    _refuse_unknown_variables()
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explain(error))
        raise ConfigurationError(f"{file}: the configuration is not valid:\n{lines}") from None
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}; it must be JSON") from error
    if settings.adapters_path is None:
        return settings
    listed = parse_adapter_list(settings.adapters_path, read_adapter_list(settings.adapters_path))
    return with_list(settings, listed)


MAX_LIST_BYTES = 4 << 20


def read_adapter_list(path: Path) -> dict[str, bytes]:
    """The bytes of `adapters_path`, by file; raises ConfigurationError as `read_texts`."""
    return read_texts(path, MAX_LIST_BYTES)


def parse_adapter_list(path: Path, texts: Mapping[str, bytes]) -> AdapterList:
    """The list in these files of `adapters_path`.

    Raises ConfigurationError with one line per problem, as `load_settings`.
    """
    tree: dict[str, Any] = {"adapters": []}
    for name, text in texts.items():
        file = path / name if path.is_dir() else path
        document, _ = parse(str(file), text)
        if not isinstance(document, dict) or not isinstance(document.get("adapters"), list):
            raise ConfigurationError(f"{file}: must hold a list `adapters`")
        tree = tree | document | {"adapters": tree["adapters"] + document["adapters"]}
    try:
        return AdapterList.model_validate(tree)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explain(error, AdapterList))
        raise ConfigurationError(f"{path}: the list is not valid:\n{lines}") from None


def with_list(settings: Settings, listed: AdapterList) -> Settings:
    """The settings with the adapters of a list, whose folders are relative to `adapters_path`.

    Raises ConfigurationError for the name of the base or of an encoder.
    """
    path = settings.adapters_path
    assert path is not None
    taken = {settings.base.name, *(each.name for each in settings.encoders)}
    for each in listed.adapters:
        if each.name in taken:
            raise ConfigurationError(f"{path}: adapters: the name {each.name!r} is taken already")
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    found = [
        each.model_copy(update={_SOURCE: _anchored(each.source, folder)})
        for each in listed.adapters
    ]
    return settings.model_copy(update={"adapters": tuple(found)})


def mask_all(settings: Settings) -> dict[str, Any]:
    """The tree as it may be printed, with secrets masked; without what `adapters_path` lists."""
    if settings.adapters_path is not None:
        settings = settings.model_copy(update={"adapters": ()})
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
        if isinstance(given, str) and (Path in kinds or name == _SOURCE):
            tree[name] = _anchored(given, folder)
        for section in (each for each in kinds if issubclass(each, Section)):
            for part in _parts(given, get_origin(field.annotation)):
                _anchor_paths(part, section, folder)


def _anchored(place: str, folder: Path) -> str:
    """A path from a folder; an address stays as it is."""
    return place if "://" in place else os.path.normpath(folder / Path(place).expanduser())


def _parts(given: Any, kind: Any) -> list[dict[str, Any]]:
    """The sections in a value: the value itself, or the items of its list or its mapping."""
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
        section = OLD_SECTIONS.get(section, section)
        known: list[str] = list(kind.model_fields)
        if section in known:
            nested = section_of(kind.model_fields[section].annotation)
            if not key or nested is None:
                continue
            section, known = key.partition(NESTING)[0], list(nested.model_fields)
        if section not in known:
            hint = nearest(section, known)
            raise ConfigurationError(f"environment variable {variable}: unknown key{hint}")


def _explain(error: ValidationError, kind: type[BaseModel] | None = None) -> Iterator[str]:
    for problem in problems(error.errors(include_url=False), kind or settings_type()):
        value = masked(problem.value, str(problem.place[-1]) if problem.place else "")
        yield str(replace(problem, value=hidden(value) if isinstance(value, str) else value))
