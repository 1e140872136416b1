"""The command line: run, search, compare, report, scenarios.

Exit codes: 0 ok, 1 requests failed, 2 usage, 3 SLO missed (or a regression), 4 the run is invalid.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from loadtests.launch import Launch
from loadtests.load.scenario import ScenarioError, load_scenario, scenario_names

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ApiOption = Literal["native", "openai-chat", "openai-completions"]

ScenarioArg = Annotated[
    str, typer.Option("--scenario", "-s", help="A shipped scenario's name, or a YAML file.")
]
HostArg = Annotated[str, typer.Option(help="URL of the server, as http://127.0.0.1:8000.")]
OutArg = Annotated[Path, typer.Option(help="Folder for the results.")]
SloArg = Annotated[
    str, typer.Option(help="An SLO profile's name, or a YAML file; else the scenario's own.")
]
ApiArg = Annotated[ApiOption, typer.Option(help="What the server speaks.")]
ModelArg = Annotated[str, typer.Option(help="The base model; by default the server's first.")]
MetricsArg = Annotated[
    str, typer.Option(help="The server's Prometheus page, to reconcile the counts.")
]
SetArg = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field, as load.arrivals.rate=4. May be repeated."),
]
WorkersArg = Annotated[int, typer.Option(min=1, help="Processes that send; 8,000 events/s each.")]


@app.command()
def run(
    scenario: ScenarioArg,
    host: HostArg,
    out: OutArg,
    slo: SloArg = "",
    api: ApiArg = "native",
    model: ModelArg = "",
    metrics_url: MetricsArg = "",
    overrides: SetArg = None,
    workers: WorkersArg = 1,
    disturb: Annotated[
        str, typer.Option(help="Command run at the scenario's disturb_at_s, as a SIGTERM.")
    ] = "",
    stop_when_doomed: Annotated[
        bool, typer.Option(help="End as soon as the SLO is out of reach.")
    ] = False,
) -> None:
    """Run a scenario, judge it, and write result.json, requests, JUnit and the report."""
    _check(scenario, overrides)
    launch = Launch(
        scenario=scenario,
        host=host,
        out=out,
        slo=slo,
        api=api,
        model=model,
        metrics_url=metrics_url,
        overrides=tuple(overrides or ()),
        workers=workers,
        disturb=disturb,
        stop_when_doomed=stop_when_doomed,
    )
    code = launch.run()
    if (out / "report.html").is_file():
        typer.echo(f"report: {out / 'report.html'}", err=True)
    raise typer.Exit(code)


@app.command()
def scenarios() -> None:
    """List the shipped scenarios."""
    for name in scenario_names():
        typer.echo(f"{name:12} {load_scenario(name).description}")


def _check(scenario: str, overrides: list[str] | None) -> None:
    """Refuse a mistaken scenario at once, without starting Locust."""
    try:
        load_scenario(scenario, tuple(overrides or ()))
    except ScenarioError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
