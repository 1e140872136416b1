"""Our options on Locust's command line (and in its web UI's start form)."""

import shlex
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.run import Target
from loadtests.load.scenario import Scenario, ScenarioError, load_scenario
from loadtests.protocol.api import ApiName
from loadtests.protocol.apis import open_api
from loadtests.target import ask_model, tenant_keys

APIS = ("native", "openai-chat", "openai-completions")


def add_options(parser: Any) -> None:
    """Declare the options; `python -m loadtests run` passes the same."""
    group = parser.add_argument_group("Load tests of LLM services")
    group.add_argument("--scenario", default="smoke", help="A shipped scenario's name, or a file")
    group.add_argument("--slo", default="", help="An SLO profile's name, or a file")
    group.add_argument("--out", default="", help="Folder for the results; none without it")
    group.add_argument("--api", default="native", choices=APIS, help="What the server speaks")
    group.add_argument("--model", default="", help="The base model; by default the server's first")
    group.add_argument("--metrics-url", default="", help="The server's Prometheus page")
    group.add_argument("--set", action="append", default=[], help="Override: dotted.path=value")
    group.add_argument("--disturb", default="", help="Command run at the scenario's disturb_at_s")
    group.add_argument("--stop-when-doomed", action="store_true", help="End once the SLO is lost")
    group.add_argument("--progress", action="store_true", help="A progress line on stderr")
    group.add_argument("--said", default="", help="The command to name in the results")


@dataclass(frozen=True, slots=True)
class Options:
    """The options, read and checked."""

    scenario: Scenario
    objectives: Objectives | None
    target: Target
    out: Path | None
    metrics_url: str
    disturb: str
    stop_when_doomed: bool
    progress: bool
    said: str

    @property
    def api(self) -> ApiName:
        return cast(ApiName, self.target.api)


def read_options(parsed: Namespace, host: str | None) -> Options:
    """Check what Locust parsed; raises ScenarioError."""
    if not host:
        raise ScenarioError("--host must be the URL of the server")
    scenario = load_scenario(parsed.scenario, tuple(parsed.set or ()))
    slo = parsed.slo or scenario.slo
    # A mistake in these would otherwise show only once the run has begun.
    tenant_keys(scenario)
    open_api(parsed.api, scenario)
    return Options(
        scenario=scenario,
        objectives=load_objectives(slo) if slo else None,
        target=Target(host, parsed.api, parsed.model or ask_model(host, scenario)),
        out=Path(parsed.out) if parsed.out else None,
        metrics_url=parsed.metrics_url,
        disturb=parsed.disturb,
        stop_when_doomed=parsed.stop_when_doomed,
        progress=parsed.progress,
        said=parsed.said or shlex.join(["locust", *sys.argv[1:]]),
    )
