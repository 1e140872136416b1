"""Load tests of LLM services: run, search, compare, report.

Exit codes: 0 ok, 1 requests failed, 2 usage, 3 SLO missed (or a regression), 4 the run is invalid.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from loadtests.analysis.duel import Round, judge
from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.result import Exit, Result
from loadtests.launch import Launch, said
from loadtests.load.scenario import Scenario, ScenarioError, load_scenario, scenario_names
from loadtests.outputs import write_duel, write_reports, write_search
from loadtests.report.console import show_duel
from loadtests.rounds import RunFailed, fight, probe_rates, read_round

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_USAGE = 2

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
NameArg = Annotated[str, typer.Option(help="What to call it in the comparison.")]
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
    if code != _USAGE and (out / "report.html").is_file():
        typer.echo(f"report: {out / 'report.html'}", err=True)
    raise typer.Exit(code)


@app.command()
def search(
    scenario: ScenarioArg,
    host: HostArg,
    out: OutArg,
    start: Annotated[float, typer.Option(min=0.001, help="First rate, requests/s.")] = 1.0,
    precision: Annotated[float, typer.Option(min=0.001, help="Wanted ratio, 0.05 is 5%.")] = 0.05,
    slo: SloArg = "",
    api: ApiArg = "native",
    model: ModelArg = "",
    metrics_url: MetricsArg = "",
    overrides: SetArg = None,
    workers: WorkersArg = 1,
) -> None:
    """Find the highest rate within the SLO: double until it fails, then bisect."""
    checked = _check(scenario, overrides)
    if not (slo or checked.slo) or checked.load.kind != "open":
        _fail("a search needs a scenario with open load and an SLO (--slo)")
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
    )
    try:
        knee, results = probe_rates(launch, start, precision, _tell)
    except RunFailed as error:
        _fail(str(error), Exit.INVALID)
    write_search(out, knee, results)
    found = "none" if knee.passed is None else f"{knee.passed:.3g} requests/s"
    failed = "no rate failed" if knee.failed is None else f"failed at {knee.failed:.3g}"
    typer.echo(f"highest rate within the SLO: {found} ({failed})")
    raise typer.Exit(Exit.OK if knee.passed is not None else Exit.SLO_MISSED)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="URL of a server, or the folder of a result.")],
    second: Annotated[str, typer.Argument(help="URL or folder to compare with the first.")],
    out: OutArg,
    scenario: ScenarioArg = "baseline",
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each server.")] = 3,
    max_regress: Annotated[
        float | None, typer.Option(help="Exit 3 if the second is worse by more; 0.05 is 5%.")
    ] = None,
    first_name: NameArg = "A",
    second_name: NameArg = "B",
    first_api: ApiArg = "native",
    second_api: ApiArg = "native",
    first_model: ModelArg = "",
    second_model: ModelArg = "",
    first_metrics_url: MetricsArg = "",
    second_metrics_url: MetricsArg = "",
    slo: SloArg = "",
    overrides: SetArg = None,
    workers: WorkersArg = 1,
) -> None:
    """Compare two servers on the same requests in random order, or two results offline."""
    _check(scenario, overrides)
    objectives = _objectives(slo)
    offline = Path(first).is_dir()
    if offline != Path(second).is_dir():
        _fail("compare two servers or two folders, not one of each")
    one = Launch(
        scenario=scenario,
        host=first,
        out=out,
        slo=slo,
        api=first_api,
        model=first_model,
        metrics_url=first_metrics_url,
        overrides=tuple(overrides or ()),
        workers=workers,
    )
    other = replace(
        one, host=second, api=second_api, model=second_model, metrics_url=second_metrics_url
    )
    ones, others = _both(one, other, 0 if offline else rounds)
    names = (first_name, second_name)
    duel = judge(ones, others, objectives or ones[0][0].objectives, names, said())
    write_duel(out, duel)
    show_duel(duel)
    raise typer.Exit(duel.exit_code(max_regress))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs or comparisons.")],
    markdown: Annotated[
        Path | None, typer.Option(help="Write one Markdown document of all of them.")
    ] = None,
) -> None:
    """Write the pages of results anew, and one document of all of them."""
    try:
        write_reports(folders, markdown)
    except (OSError, ValueError) as error:
        _fail(f"no result can be read: {error}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of result.json."""
    typer.echo(json.dumps(Result.model_json_schema(), indent=1))


@app.command()
def scenarios() -> None:
    """List the shipped scenarios."""
    for name in scenario_names():
        typer.echo(f"{name:12} {load_scenario(name).description}")


def _check(scenario: str, overrides: list[str] | None) -> Scenario:
    """Refuse a mistaken scenario at once, without starting Locust."""
    try:
        return load_scenario(scenario, tuple(overrides or ()))
    except ScenarioError as error:
        _fail(str(error))


def _both(one: Launch, other: Launch, rounds: int) -> tuple[list[Round], list[Round]]:
    """The rounds of two servers, or without rounds the results in two folders."""
    try:
        if rounds:
            return fight(one, other, rounds, seed=0, tell=_tell)
        return [read_round(Path(one.host))], [read_round(Path(other.host))]
    except RunFailed as error:
        _fail(str(error), Exit.INVALID)


def _objectives(slo: str) -> Objectives | None:
    try:
        return load_objectives(slo) if slo else None
    except ScenarioError as error:
        _fail(str(error))


def _fail(message: str, code: int = _USAGE) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)


def _tell(line: str) -> None:
    typer.echo(line, err=True)
