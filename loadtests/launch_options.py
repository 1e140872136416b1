"""The options that commands share, gathered into one Launch."""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from loadtests.launch import Declared, Launch, declared, required
from loadtests.load.scenario import ScenarioError, load_scenario
from loadtests.outputs import read_search
from loadtests.target import extra_headers

USAGE = 2

Command = Callable[..., None]

_SERVER = ("host", "api", "model", "metrics_url")
_RUN = ("disturb", "stop_when_doomed")
_OWN = ("progress", "said")
_CAPACITY = Annotated[
    str,
    typer.Option(
        help="Rate that the scenario's steps multiply: requests/s, or the folder of a search, for "
        "the highest rate that it found."
    ),
]


def takes_launch(
    *, server: bool, scenario: str | Mapping[str, str] | None = None, single: bool = False
) -> Callable[[Command], Command]:
    """Replace a command's first parameter, a Launch, by the options that make one.

    Options that only make sense for one server (`server`) or one run (`single`) are included only
    on request; `scenario` is the default scenario, or a mapping from a variant to its own. A
    scenario, field, header, capacity or folder that cannot be used ends the command with exit code
    2, before anything is started.
    """
    left_out = _OWN + (() if server else _SERVER) + (() if single else _RUN)
    shared = [_parameter(each, scenario) for each in declared() if each.name not in left_out]
    capacity = inspect.Parameter(
        "capacity", inspect.Parameter.KEYWORD_ONLY, default="", annotation=_CAPACITY
    )
    shared.append(capacity)
    options = [each.name for each in shared]

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command).parameters.values())[1:]

        def parsed(**given: Any) -> None:
            if isinstance(scenario, Mapping):
                given["scenario"] = given["scenario"] or scenario[given["variant"]]
            launch = _launch(**{name: given.pop(name) for name in options})
            command(launch, **given)

        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parsed.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        parsed.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
        parsed.__name__, parsed.__doc__ = command.__name__, command.__doc__
        return parsed

    return decorate


def fail(message: str, code: int = USAGE) -> NoReturn:
    """End the command with a one-line error."""
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)


def _parameter(option: Declared, scenario: str | Mapping[str, str] | None) -> inspect.Parameter:
    default = inspect.Parameter.empty if required(option) else option.default
    kind = option.kind
    if option.name == "scenario" and scenario:
        default = scenario if isinstance(scenario, str) else ""
    if isinstance(default, tuple):
        kind, default = list[str] | None, None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option.info],
    )


def _launch(
    *,
    capacity: str,
    overrides: list[str] | None,
    headers: list[str] | None,
    host: str = "",
    **fields: Any,
) -> Launch:
    rate = [f"load.arrivals.rate={_rate(capacity):.6g}"] if capacity else []
    changed = (*rate, *(overrides or ()))
    launch = Launch(host=host, overrides=changed, headers=tuple(headers or ()), **fields)
    try:
        extra_headers(launch.headers)
        load_scenario(launch.scenario, launch.overrides)
        launch.out.mkdir(parents=True, exist_ok=True)
    except ScenarioError as error:
        fail(str(error))
    except OSError as error:
        fail(f"--out must be a folder that can be made, got {launch.out}: {error.strerror}")
    if not os.access(launch.out, os.W_OK | os.X_OK):
        fail(f"--out must be a folder that user {os.getuid()} can write to, got {launch.out}")
    return launch


def _rate(capacity: str) -> float:
    try:
        return float(capacity)
    except ValueError:
        pass
    try:
        found = read_search(Path(capacity)).passed
    except (OSError, ValueError) as error:
        fail(f"--capacity must be a number or the folder of a search, got {capacity!r}: {error}")
    if found is None:
        fail(f"--capacity: the search in {capacity} found no rate within its objectives")
    return found
