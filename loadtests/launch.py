"""One run of Locust on our locustfile, and the table of every option that it takes."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from loadtests.processes import end, free_port
from loadtests.protocol.api import ApiName

NOWHERE = Path(os.devnull)
"""Folder for results that are not kept."""

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def _option(*flags: str, help: str, **more: Any) -> Any:
    return typer.Option(*flags, help=help, **more)


@dataclass(frozen=True, slots=True)
class Launch:
    """One run; each field is an option of our commands and of Locust with our locustfile."""

    scenario: Annotated[
        str, _option("--scenario", "-s", help="A shipped scenario's name, or a YAML file.")
    ]
    host: Annotated[str, _option(help="URL of the server, as http://127.0.0.1:8000.")]
    out: Annotated[Path, _option(help="Folder for the results.")] = NOWHERE
    slo: Annotated[
        str, _option(help="An SLO profile's name, or a YAML file; else the scenario's own.")
    ] = ""
    api: Annotated[ApiName, _option(help="The API that the server speaks.")] = "native"
    model: Annotated[str, _option(help="The base model; by default the server's first.")] = ""
    metrics_url: Annotated[
        str,
        _option(help="The server's Prometheus page, to compare counts and draw its series."),
    ] = ""
    overrides: Annotated[
        tuple[str, ...],
        _option("--set", help="Override a field, as load.arrivals.rate=4. May be repeated."),
    ] = ()
    headers: Annotated[
        tuple[str, ...],
        _option("--header", help="Header of every request, as 'X-Team: search'. May be repeated."),
    ] = ()
    workers: Annotated[int, _option(min=1, help="Processes that send; 8,000 events/s each.")] = 1
    disturb: Annotated[str, _option(help="Command to run at the scenario's disturb_at_s.")] = ""
    stop_when_doomed: Annotated[bool, _option(help="End as soon as the SLO is out of reach.")] = (
        False
    )
    progress: Annotated[bool, _option(help="A progress line on stderr.")] = True
    said: Annotated[str, _option(help="The command to name in the results.")] = ""

    def arguments(self) -> list[str]:
        """Locust's command line."""
        arguments = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless"]
        # Locust prints its own tables unless it writes them to a file.
        arguments += ["--only-summary", "--loglevel", "WARNING"]
        arguments += ["--json-file", str(self.out / "locust")]
        for option in declared():
            value = getattr(self, option.name) or (said() if option.name == "said" else "")
            # One word, because a value may begin with a dash.
            match value:
                case True:
                    arguments.append(option.flag)
                case tuple():
                    arguments += [f"{option.flag}={each}" for each in value]
                case _ if value and option.name != "workers":
                    arguments.append(f"{option.flag}={value}")
        if self.workers > 1:
            # A port of its own, so that two runs on one machine do not collide.
            port = str(free_port())
            arguments += ["--processes", str(self.workers), "--master-bind-host", "127.0.0.1"]
            arguments += ["--master-bind-port", port, "--master-port", port]
        return arguments

    def run(self, *, quiet: bool = False) -> int:
        """Run to the end and return the exit code; `quiet` drops the summary."""
        self.out.mkdir(parents=True, exist_ok=True)
        parent = str(_LOCUSTFILE.parent.parent)
        path = os.pathsep.join(filter(None, [parent, os.environ.get("PYTHONPATH", "")]))
        process = subprocess.Popen(
            self.arguments(),
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal interrupted Locust too, which now writes its results.
            return process.wait()
        finally:
            end(process)


@dataclass(frozen=True, slots=True)
class Declared:
    """A row of the table: a field of Launch, its type, its default and its help text."""

    name: str
    kind: Any
    default: Any
    info: OptionInfo

    @property
    def flag(self) -> str:
        """The long option, as `--metrics-url`."""
        # Typer keeps the first of several words of an annotation in the place of the default.
        words = (str(self.info.default), *(self.info.param_decls or ()))
        own = f"--{self.name.replace('_', '-')}"
        return next((word for word in words if word.startswith("--")), own)


def declared() -> Iterator[Declared]:
    """The table in order; a default is `dataclasses.MISSING` where there is none."""
    hints = get_type_hints(Launch, include_extras=True)
    for each in fields(Launch):
        kind, info = hints[each.name].__origin__, hints[each.name].__metadata__[0]
        yield Declared(each.name, kind, each.default, info)


def required(option: Declared) -> bool:
    """True if a command must be given the option."""
    return option.default is MISSING or option.default == NOWHERE


def said() -> str:
    """The command as it was typed, for the results; of headers only their names."""
    words = list(sys.argv[1:])
    for position, word in enumerate(words):
        if position and words[position - 1] == "--header":
            words[position] = _name_of(word)
        elif word.startswith("--header="):
            words[position] = f"--header={_name_of(word.partition('=')[2])}"
    return "python -m loadtests " + shlex.join(words)


def _name_of(header: str) -> str:
    return f"{header.partition(':')[0]}: ..."
