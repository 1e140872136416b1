"""Our options on Locust's command line (and in its web UI's start form)."""

import shlex
import sys
from argparse import Namespace
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, get_args

from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.run import Target
from loadtests.launch import NOWHERE, Launch, declared
from loadtests.load.scenario import Scenario, ScenarioError, load_scenario
from loadtests.protocol.apis import open_api
from loadtests.target import ask_model, extra_headers, server_address, tenant_keys

# Locust declares these options itself.
_LOCUSTS = ("host", "workers")
_REFUSED = {"num_users": "-u", "spawn_rate": "-r", "run_time": "-t"}


def add_options(parser: Any) -> None:
    """Declare the options; `python -m loadtests run` passes the same."""
    group = parser.add_argument_group("Load tests of LLM services")
    for option in declared():
        if option.name in _LOCUSTS:
            continue
        words: dict[str, Any] = {"dest": option.name, "help": option.info.help}
        if option.kind is bool:
            words |= {"action": "store_true"}
        elif isinstance(option.default, tuple):
            words |= {"action": "append", "default": []}
        else:
            default = "smoke" if option.default is MISSING else str(option.default)
            words |= {"default": default, "choices": get_args(option.kind) or None}
        group.add_argument(option.flag, **words)


@dataclass(frozen=True, slots=True)
class Options:
    """The options, read and checked."""

    launch: Launch
    scenario: Scenario
    objectives: Objectives | None
    target: Target

    @property
    def out(self) -> Path | None:
        """Folder for the results, if they are wanted."""
        return None if self.launch.out == NOWHERE else self.launch.out


def refuse_counts(parsed: Namespace) -> None:
    """Raise ScenarioError for options of Locust that a scenario replaces."""
    for name, flag in _REFUSED.items():
        if getattr(parsed, name, None):
            raise ScenarioError(
                f"{flag} is not used here, the scenario says how many come and for how long: "
                "give --set load.arrivals.rate=4, load.users=[8] or load.step_s=60 instead"
            )


def read_options(parsed: Namespace, host: str | None) -> Options:
    """Check what Locust parsed; raises ScenarioError."""
    if not host:
        raise ScenarioError("--host must be the URL of the server")
    host = server_address(host)
    given = {each.name: getattr(parsed, each.name) for each in declared() if each.name != "workers"}
    given |= {"host": host, "out": Path(given["out"]), "said": given["said"] or _said()}
    given |= {name: tuple(given[name] or ()) for name in ("overrides", "headers")}
    launch = Launch(**given)
    scenario = load_scenario(launch.scenario, launch.overrides)
    slo = launch.slo or scenario.slo
    # An invalid value would otherwise be found only after the run has begun.
    tenant_keys(scenario)
    headers = extra_headers(launch.headers)
    open_api(launch.api, scenario)
    model = launch.model or ask_model(host, scenario, headers)
    return Options(
        launch=launch,
        scenario=scenario,
        objectives=load_objectives(slo) if slo else None,
        target=Target(host, launch.api, model),
    )


def _said() -> str:
    return shlex.join(["locust", *sys.argv[1:]])
