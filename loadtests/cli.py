"""Load tests of LLM services: run, search, compare, bench, report.

Exit codes: 0 ok, 1 requests failed, 2 usage, 3 SLO missed (or a regression), 4 the run is invalid.
"""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from loadtests.analysis.duel import Round, judge
from loadtests.analysis.objectives import Objectives, load_objectives
from loadtests.analysis.result import Exit, Result
from loadtests.launch import Launch, said
from loadtests.launch_options import USAGE, fail, takes_launch
from loadtests.load.scenario import Scenario, ScenarioError, load_scenario, scenario_names
from loadtests.outputs import write_duel, write_reports, write_search
from loadtests.peers import engine_arguments, only
from loadtests.protocol.api import ApiName
from loadtests.report.console import show_duel
from loadtests.rounds import fight, finished_round, probe_rates, sweep_rates
from loadtests.search import RunFailed
from loadtests.variants import VARIANTS, started

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

VariantName = Literal[
    "vllm",
    "queue",
    "background",
    "crowd",
    "decode",
    "quantised",
    "adapters",
    "shadow",
    "classify",
    "decisions",
    "embed",
    "head",
]
NameArg = Annotated[str, typer.Option(help="Its name in the comparison.")]
ApiArg = Annotated[ApiName, typer.Option(help="The API that it speaks.")]
ModelArg = Annotated[str, typer.Option(help="Its base model; by default its first.")]
MetricsArg = Annotated[str, typer.Option(help="Its Prometheus page.")]
RoundsArg = Annotated[int, typer.Option(min=1, help="Runs of each server.")]
RegressArg = Annotated[
    float | None, typer.Option(help="Exit 3 if the second is worse by more; 0.05 is 5%.")
]


@app.command()
@takes_launch(server=True, single=True)
def run(launch: Launch) -> None:
    """Run a scenario, judge it, and write result.json, requests, JUnit and the report."""
    code = launch.run()
    if code != USAGE and (launch.out / "report.html").is_file():
        typer.echo(f"report: {launch.out / 'report.html'}", err=True)
    raise typer.Exit(code)


@app.command()
@takes_launch(server=True)
def search(
    launch: Launch,
    start: Annotated[float, typer.Option(min=0.001, help="First rate, requests/s.")] = 1.0,
    precision: Annotated[
        float, typer.Option(min=0.001, help="Precision of the rate; 0.05 is 5%.")
    ] = 0.05,
) -> None:
    """Find the highest rate within the SLO: double until it fails, then bisect.

    An invalid probe ends the search with exit code 4; search.json holds the results until then.
    """
    scenario = _of_open_load(launch)
    if not (launch.slo or scenario.slo):
        fail("a search needs an SLO: the scenario's own, or --slo")
    knee, results = probe_rates(launch, start, precision, _tell)
    write_search(launch.out, knee, results)
    found = "none" if knee.passed is None else f"{knee.passed:.3g} requests/s"
    failed = "no rate failed" if knee.failed is None else f"failed at {knee.failed:.3g}"
    typer.echo(f"highest rate within the SLO: {found} ({failed})")
    if knee.stopped is not None:
        fail(knee.stopped, Exit.INVALID)
    raise typer.Exit(Exit.OK if knee.passed is not None else Exit.SLO_MISSED)


@app.command()
@takes_launch(server=True)
def sweep(
    launch: Launch,
    rate: Annotated[list[float], typer.Option(min=0.001, help="Requests/s; once for each rate.")],
) -> None:
    """Run a scenario at each of several rates, and plot throughput against latency.

    The page has a row and a point for each rate; search.json serves as --capacity, too. Ends with
    the worst exit code, not counting a missed SLO, which higher rates of a sweep are meant to miss.
    """
    _of_open_load(launch)
    try:
        knee, results = sweep_rates(launch, rate, _tell)
    except RunFailed as error:
        fail(str(error), Exit.INVALID)
    write_search(launch.out, knee, results)
    codes = {result.verdict.exit_code for result in results} - {Exit.SLO_MISSED}
    raise typer.Exit(max(codes, default=Exit.OK))


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
    found = _fought([one, other], 0 if offline else rounds)
    raise typer.Exit(_judged(launch, found, names, max_regress))


@app.command()
@takes_launch(server=False, scenario={name: each.scenario for name, each in VARIANTS.items()})
def bench(
    launch: Launch,
    variant: Annotated[VariantName, typer.Option(help="Servers to compare.")] = "vllm",
    rounds: RoundsArg = 3,
    max_regress: RegressArg = None,
    model_folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Model's folder for all; default the variant's own."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine argument of all, such as `max_num_seqs=256`; on a GPU begin with "
            "`enforce_eager=false` and `gpu_memory_utilization=0.9`."
        ),
    ] = None,
) -> None:
    """Start servers with the same model and arguments, and compare each with the first.

    vllm: this service and vLLM's own server. background: the same two, with chats of the tier flex
    that are all sent at once. crowd: the same two, with more users than sequences. queue: the same
    two, and vLLM's with a bounded queue. decode: the same two, and llama.cpp with weights of 4
    bits. quantised: the same two, and both with weights of 8 bits. adapters: the base alone, four
    random adapters, and the same with vLLM's operators. shadow: these adapters, and the same with a
    release each in its shadow.
    classify: this service's label reads, and three ways to get the same answer from vLLM.
    decisions: questions about texts by /v1/systemone, which vLLM has for few families of models, so
    a random Qwen3 answers. embed and head: an encoder's embeddings, and classifications by a random
    head on it, by this service and vLLM's own server. A variant has a scenario of its own, which
    --scenario replaces.
    """
    chosen = VARIANTS[variant]
    try:
        arguments = engine_arguments(engine or [])
    except ValueError as error:
        fail(str(error))
    with started(chosen, launch, model_folder, arguments) as sides:
        before = [server.api_seconds() for server, _ in sides]
        servers = [server for server, _ in sides]
        found = _fought([each for _, each in sides], rounds, partial(only, servers))
        names = [side.name for side in chosen.sides]
        for name, (server, _), since in zip(names, sides, before, strict=True):
            typer.echo(f"{name}: {server.api_process(since)}", err=True)
    codes = []
    for name, other in zip(names[1:], found[1:], strict=True):
        folder = re.sub(r"\W+", "-", name.lower()) if len(found) > 2 else ""
        own = replace(launch, out=launch.out / folder)
        codes.append(_judged(own, [found[0], other], (names[0], name), max_regress))
    raise typer.Exit(max(codes))


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of runs, searches or comparisons.")
    ],
    markdown: Annotated[
        Path | None,
        typer.Option(help="Write their figures between the markers of a Markdown document."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Write a row of numbers for each run, stage, tenant and so on."),
    ] = None,
) -> None:
    """Regenerate the pages of results, and one document of all of them."""
    try:
        write_reports(folders, markdown, csv)
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


def _of_open_load(launch: Launch) -> Scenario:
    scenario = load_scenario(launch.scenario, launch.overrides)
    if scenario.load.kind != "open":
        fail(
            "the scenario must have open load, whose rate can be set: load.kind is "
            f"{scenario.load.kind}"
        )
    return scenario


def _judged(
    launch: Launch, sides: list[list[Round]], names: tuple[str, str], max_regress: float | None
) -> Exit:
    """Judge, write and show the rounds of two servers."""
    objectives = _objectives(launch.slo) or sides[0][0][0].objectives
    duel = judge(sides[0], sides[1], objectives, names, said())
    write_duel(launch.out, duel)
    show_duel(duel)
    return duel.exit_code(max_regress)


def _fought(
    launches: list[Launch],
    rounds: int,
    alone: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> list[list[Round]]:
    """The rounds of servers, or without rounds the results in folders."""
    try:
        if rounds:
            return fight(launches, rounds, 0, _tell, alone)
        return [[finished_round(Path(each.host))] for each in launches]
    except RunFailed as error:
        fail(str(error), Exit.INVALID)


def _objectives(slo: str) -> Objectives | None:
    try:
        return load_objectives(slo) if slo else None
    except ScenarioError as error:
        fail(str(error))


def _tell(line: str) -> None:
    typer.echo(line, err=True)
