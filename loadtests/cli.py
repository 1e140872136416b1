"""Load tests of LLM services: run, search, compare, bench, report.

Exit codes: 0 ok, 1 requests failed, 2 usage, 3 SLO missed (or a regression), 4 the run is invalid.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from loadtests.analysis.duel import Round, judge
from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.result import Exit, Result
from loadtests.launch import Launch, said
from loadtests.launch_options import USAGE, ApiOption, fail, takes_launch
from loadtests.load.scenario import ScenarioError, load_scenario, scenario_names
from loadtests.outputs import write_duel, write_reports, write_search
from loadtests.peers import MODEL, MODEL_FOLDER, ours, theirs
from loadtests.report.console import show_duel
from loadtests.rounds import fight, finished_round, probe_rates
from loadtests.search import RunFailed

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

NameArg = Annotated[str, typer.Option(help="What to call it in the comparison.")]
ApiArg = Annotated[ApiOption, typer.Option(help="What this one speaks.")]
ModelArg = Annotated[str, typer.Option(help="Its base model; by default its first.")]
MetricsArg = Annotated[str, typer.Option(help="Its Prometheus page.")]
RoundsArg = Annotated[int, typer.Option(min=1, help="Runs of each server.")]
RegressArg = Annotated[
    float | None, typer.Option(help="Exit 3 if the second is worse by more; 0.05 is 5%.")
]


@app.command()
@takes_launch(server=True)
def run(
    launch: Launch,
    disturb: Annotated[
        str, typer.Option(help="Command run at the scenario's disturb_at_s, as a SIGTERM.")
    ] = "",
    stop_when_doomed: Annotated[
        bool, typer.Option(help="End as soon as the SLO is out of reach.")
    ] = False,
) -> None:
    """Run a scenario, judge it, and write result.json, requests, JUnit and the report."""
    code = replace(launch, disturb=disturb, stop_when_doomed=stop_when_doomed).run()
    if code != USAGE and (launch.out / "report.html").is_file():
        typer.echo(f"report: {launch.out / 'report.html'}", err=True)
    raise typer.Exit(code)


@app.command()
@takes_launch(server=True)
def search(
    launch: Launch,
    start: Annotated[float, typer.Option(min=0.001, help="First rate, requests/s.")] = 1.0,
    precision: Annotated[float, typer.Option(min=0.001, help="Wanted ratio, 0.05 is 5%.")] = 0.05,
) -> None:
    """Find the highest rate within the SLO: double until it fails, then bisect.

    A probe that is invalid ends it with exit code 4; search.json holds what was found until then.
    """
    scenario = load_scenario(launch.scenario, launch.overrides)
    if not (launch.slo or scenario.slo) or scenario.load.kind != "open":
        fail("a search needs a scenario with open load and an SLO (--slo)")
    knee, results = probe_rates(launch, start, precision, _tell)
    write_search(launch.out, knee, results)
    found = "none" if knee.passed is None else f"{knee.passed:.3g} requests/s"
    failed = "no rate failed" if knee.failed is None else f"failed at {knee.failed:.3g}"
    typer.echo(f"highest rate within the SLO: {found} ({failed})")
    if knee.stopped is not None:
        fail(knee.stopped, Exit.INVALID)
    raise typer.Exit(Exit.OK if knee.passed is not None else Exit.SLO_MISSED)


@app.command()
@takes_launch(server=False, scenario="baseline")
def compare(
    launch: Launch,
    first: Annotated[str, typer.Argument(help="URL of a server, or the folder of a result.")],
    second: Annotated[str, typer.Argument(help="URL or folder to compare with the first.")],
    rounds: RoundsArg = 3,
    max_regress: RegressArg = None,
    first_name: NameArg = "A",
    second_name: NameArg = "B",
    first_api: ApiArg = "native",
    second_api: ApiArg = "native",
    first_model: ModelArg = "",
    second_model: ModelArg = "",
    first_metrics_url: MetricsArg = "",
    second_metrics_url: MetricsArg = "",
) -> None:
    """Compare two servers on the same requests in random order, or two results offline."""
    offline = Path(first).is_dir()
    if offline != Path(second).is_dir():
        fail("compare two servers or two folders, not one of each")
    one = replace(
        launch, host=first, api=first_api, model=first_model, metrics_url=first_metrics_url
    )
    other = replace(
        launch, host=second, api=second_api, model=second_model, metrics_url=second_metrics_url
    )
    names = (first_name, second_name)
    raise typer.Exit(_judge(one, other, names, 0 if offline else rounds, max_regress))


@app.command()
@takes_launch(server=False, scenario="baseline")
def bench(
    launch: Launch,
    rounds: RoundsArg = 3,
    max_regress: RegressArg = None,
    folder: Annotated[Path, typer.Option(help="Folder of the model both serve.")] = MODEL_FOLDER,
) -> None:
    """Start this service and vLLM's own server with the same model and arguments; compare them."""
    with ours(folder) as mine, theirs(folder) as peer:
        one = replace(launch, host=mine.url, model=MODEL, metrics_url=mine.metrics_url)
        other = replace(
            launch, host=peer.url, api="openai-chat", model=MODEL, metrics_url=peer.metrics_url
        )
        code = _judge(one, other, ("this service", "vllm serve"), rounds, max_regress)
        memory = mine.api_process_mb(), peer.api_process_mb()
    typer.echo(f"API process: {memory[0]:.0f} MB, vllm serve {memory[1]:.0f} MB", err=True)
    raise typer.Exit(code)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of runs, searches or comparisons.")
    ],
    markdown: Annotated[
        Path | None,
        typer.Option(help="Write their figures between the markers of a Markdown document."),
    ] = None,
) -> None:
    """Write the pages of results anew, and one document of all of them."""
    try:
        write_reports(folders, markdown)
    except (OSError, ValueError) as error:
        fail(f"no result can be read: {error}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of result.json."""
    typer.echo(json.dumps(Result.model_json_schema(), indent=1))


@app.command()
def scenarios() -> None:
    """List the shipped scenarios."""
    for name in scenario_names():
        typer.echo(f"{name:12} {load_scenario(name).description}")


def _judge(
    one: Launch,
    other: Launch,
    names: tuple[str, str],
    rounds: int,
    max_regress: float | None,
) -> Exit:
    """Compare, write and show; without rounds the results in two folders."""
    objectives = _objectives(one.slo)
    ones, others = _both(one, other, rounds)
    duel = judge(ones, others, objectives or ones[0][0].objectives, names, said())
    write_duel(one.out, duel)
    show_duel(duel)
    return duel.exit_code(max_regress)


def _both(one: Launch, other: Launch, rounds: int) -> tuple[list[Round], list[Round]]:
    """The rounds of two servers, or without rounds the results in two folders."""
    try:
        if rounds:
            return fight(one, other, rounds, seed=0, tell=_tell)
        return [finished_round(Path(one.host))], [finished_round(Path(other.host))]
    except RunFailed as error:
        fail(str(error), Exit.INVALID)


def _objectives(slo: str) -> Objectives | None:
    try:
        return load_objectives(slo) if slo else None
    except ScenarioError as error:
        fail(str(error))


def _tell(line: str) -> None:
    typer.echo(line, err=True)
