"""The options that commands share, gathered into one Launch."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from loadtests.launch import Launch
from loadtests.load.scenario import ScenarioError, load_scenario
from loadtests.outputs import read_search

USAGE = 2

ApiOption = Literal["native", "openai-chat", "openai-completions"]

Command = Callable[..., None]

_PLAN = {
    "scenario": Annotated[
        str, typer.Option("--scenario", "-s", help="A shipped scenario's name, or a YAML file.")
    ],
    "out": Annotated[Path, typer.Option(help="Folder for the results.")],
    "slo": Annotated[
        str, typer.Option(help="An SLO profile's name, or a YAML file; else the scenario's own.")
    ],
    "capacity": Annotated[
        str,
        typer.Option(
            help="What the scenario's steps are multiples of: requests/s, or the folder of a "
            "search, for the highest rate it found."
        ),
    ],
    "overrides": Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a field, as load.arrivals.rate=4. May be repeated."),
    ],
    "workers": Annotated[
        int, typer.Option(min=1, help="Processes that send; 8,000 events/s each.")
    ],
}
_SERVER = {
    "host": Annotated[str, typer.Option(help="URL of the server, as http://127.0.0.1:8000.")],
    "api": Annotated[ApiOption, typer.Option(help="What the server speaks.")],
    "model": Annotated[str, typer.Option(help="The base model; by default the server's first.")],
    "metrics_url": Annotated[
        str, typer.Option(help="The server's Prometheus page, to reconcile the counts.")
    ],
}
_DEFAULTS = {
    "slo": "",
    "capacity": "",
    "overrides": None,
    "workers": 1,
    "api": "native",
    "model": "",
    "metrics_url": "",
}


def takes_launch(*, server: bool, scenario: str | None = None) -> Callable[[Command], Command]:
    """Replace a command's first parameter, a Launch, by the options that make one.

    Those of a single server only if asked for; `scenario` is the default one. A scenario, field,
    capacity or folder that cannot be used ends the command with exit code 2, before anything is
    started.
    """
    options = _PLAN | (_SERVER if server else {})
    defaults = _DEFAULTS | ({"scenario": scenario} if scenario else {})

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command).parameters.values())[1:]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=annotation,
            )
            for name, annotation in options.items()
        ]

        def parsed(**given: Any) -> None:
            launch = _launch(**{name: given.pop(name) for name in options})
            command(launch, **given)

        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parsed.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        parsed.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
        parsed.__name__, parsed.__doc__ = command.__name__, command.__doc__
        return parsed

    return decorate


def fail(message: str, code: int = USAGE) -> NoReturn:
    """End the command with one line."""
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)


def _launch(*, capacity: str, overrides: list[str] | None, host: str = "", **fields: Any) -> Launch:
    rate = [f"load.arrivals.rate={_rate(capacity):.6g}"] if capacity else []
    launch = Launch(host=host, overrides=(*rate, *(overrides or ())), **fields)
    try:
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
