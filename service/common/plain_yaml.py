"""YAML read by 1.2's core schema; keys must be text, and none may appear twice.

Unlike in PyYAML's YAML 1.1, `no`, `on` and dates are text, `010` is ten and `1e-3` a number.
"""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from service.common.error_messages import problems
from service.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)

_LONGEST_KEY = 40
_FOUND = {type(None): "nothing", list: "a list"}
_CORE_SCALARS = (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
)
# In C if PyYAML was built with it, because requests wait while a long file is read.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainLoader(_Loader):  # type: ignore[misc]
    """PyYAML's safe loader under the rules of this module."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"key {key!r:.{_LONGEST_KEY}} is not text: quote it", key_node)
            if key in mapping:
                raise _refused(f"key {key[:_LONGEST_KEY]!r} is given twice", key_node)
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


class PlainDumper(yaml.SafeDumper):
    """PyYAML's safe dumper; `PlainLoader` reads its text back as the same values."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol


for _tag, _pattern, _first in _CORE_SCALARS:
    PlainLoader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
    PlainDumper.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
# Not SafeLoader's resolver, which reads 010 as eight.
PlainLoader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping that a file holds; ConfigurationError, which shows none of its values."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    document, _ = parse(str(file), text)
    if not isinstance(document, dict):
        found = _FOUND.get(type(document), "a single value")
        raise ConfigurationError(f"{file}: must hold `key: value` lines, got {found}")
    return document


def parse(source: str, text: bytes) -> tuple[Any, yaml.Node | None]:
    """The one document of a text, and its nodes, which know their lines.

    Raises ConfigurationError with the line, and without PyYAML's excerpt, which may hold a secret.
    """
    try:
        loader = PlainLoader(text)
        try:
            tree = loader.get_single_node()
            return (None if tree is None else loader.construct_document(tree)), tree
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{source}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = type(error).__name__
        raise ConfigurationError(f"{source}: not valid YAML: {kind}") from None


def _refused(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def validated(model: type[Model], tree: Mapping[str, Any], file: Path) -> Model:
    """A mapping as a model; ConfigurationError with one line per problem, each naming its key."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = problems(error.errors(include_url=False), model)
        lines = "\n".join(f"  {problem}" for problem in found)
        raise ConfigurationError(f"{file}: not valid:\n{lines}") from error
