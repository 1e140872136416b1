"""The command line, and the scenarios it ships."""

import gzip
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loadtests.analysis.objectives import load_objectives
from loadtests.cli import app
from loadtests.launch import Launch, said
from loadtests.launch_options import takes_launch
from loadtests.load.plan import Plan
from loadtests.load.scenario import ScenarioError, load_scenario, scenario_names
from loadtests.outputs import write_outputs, write_search
from loadtests.protocol.record import Record
from loadtests.report.markdown import END
from loadtests.search import Knee
from tests.loadtests.records import record, run
from tests.loadtests.test_comparison import measured

SHIPPED = {
    "smoke",
    "baseline",
    "batches",
    "overload",
    "fairness",
    "adapters",
    "background",
    "canary",
    "classify",
    "crowd",
    "decisions",
    "decode",
    "embeddings",
    "flex",
    "light",
    "soak",
    "rollout",
    "shadow",
    "shares",
    "streams",
    "reads",
}


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def test_every_promised_scenario_is_shipped() -> None:
    assert set(scenario_names()) == SHIPPED
    code, output = invoke("scenarios")
    assert code == 0
    assert all(name in output for name in SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_scenario_can_be_planned(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    # Nobody waits for work in the background, and of a crowd only the answers are counted.
    if name in ("background", "crowd"):
        assert scenario.slo is None
    else:
        load_objectives(scenario.slo or "")
    plan = Plan(scenario, "base")
    arrivals = plan.arrivals[:300] or [plan.closed_arrival(0, n, 0.0) for n in range(300)]
    called = {plan.call(arrival).workload for arrival in arrivals}
    assert called == {workload.label for workload in scenario.workloads}


def test_smoke_lasts_a_minute() -> None:
    assert load_scenario("smoke").duration_s == 60


@pytest.mark.parametrize(
    "command", ["run", "search", "sweep", "compare", "bench", "report", "scenarios", "schema"]
)
def test_every_command_explains_itself(command: str) -> None:
    code, output = invoke(command, "--help")
    assert code == 0
    assert "Usage" in output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("load.arrivals.rate=-1", "load.open.arrivals.poisson.rate"),
        ("lod.step_s=1", "lod"),
        ("name", "dotted.path=value"),
        ("workloads.9.weight=1", "workloads.9.weight=1"),
        ("load.steps=[1, 1]", "must be distinct, got [1.0, 1.0]"),
        (
            "load={kind: closed, users: [1, 2], requests: 1, step_s: 1}",
            "requests: users must be one number then, got [1, 2]",
        ),
    ],
)
def test_a_mistaken_scenario_is_named_and_not_run(override: str, message: str) -> None:
    code, output = invoke(
        "run", "-s", "smoke", "--host", "http://x", "--out", "o", "--set", override
    )
    assert code == 2
    assert message in output


def test_a_folder_that_cannot_be_made_is_named_and_nothing_run(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, output = invoke("run", "-s", "smoke", "--host", "http://x", "--out", str(file / "out"))
    assert (code, "--out must be a folder that can be made" in output) == (2, True)


@pytest.mark.parametrize("line", ["X-Team", "X Team: a", "X-Team: "])
def test_a_header_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    words = ("-s", "smoke", "--host", "http://x", "--out", str(tmp_path), "--header", line)
    code, output = invoke("run", *words)
    assert (code, f"--header must be 'Name: value', got {line!r}" in output) == (2, True)


def test_the_command_that_is_named_holds_no_headers_value(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["x", "run", "--header", "Api-Key: secret", "--header=Other: hidden", "-s", "smoke"]
    monkeypatch.setattr("sys.argv", words)
    assert "-s smoke" in said()
    assert not {"secret", "hidden"} & set(said().replace("'", " ").split())


def test_overrides_reach_into_lists() -> None:
    scenario = load_scenario(
        "smoke", ("workloads.1.weight=7", "load.arrivals={process: constant, rate: 3}")
    )
    assert scenario.workloads[1].weight == 7
    assert scenario.load.kind == "open"
    assert scenario.load.arrivals.process == "constant"


def test_mistakes_are_one_line_without_pydantics_words(tmp_path: Path) -> None:
    overrides = ("load.nope=1", "load.step_s=-1", "workloads=[{kind: prompts, path: /gone}]")
    with pytest.raises(ScenarioError) as raised:
        load_scenario("smoke", overrides)
    _, _, told = str(raised.value).partition("smoke.yaml: ")
    assert told.split("; ") == [
        "load.open.step_s: Input should be greater than 0, got -1",
        "load.open.nope: unknown key",
        "workloads.0.prompts.path: /gone: cannot be read: "
        "[Errno 2] No such file or directory: '/gone'",
        "workloads.0.prompts.output: Field required",
    ]
    (tmp_path / "slo.yaml").write_text("{nope: 1}")
    with pytest.raises(ScenarioError, match=r"nope: unknown key$"):
        load_objectives(str(tmp_path / "slo.yaml"))


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(ScenarioError, match=r"baseline.*'smok'"):
        load_scenario("smok")


def test_a_search_needs_an_slo_and_open_load(tmp_path: Path) -> None:
    code, output = invoke(
        "search", "-s", "smoke", "--host", "http://x", "--out", str(tmp_path), "--set", "slo=null"
    )
    assert code == 2
    assert "a search needs an SLO" in output


def test_a_capacity_is_the_rate_that_steps_multiply(tmp_path: Path) -> None:
    asked: list[Launch] = []

    @takes_launch(server=False, scenario="overload")
    def command(launch: Launch) -> None:
        asked.append(launch)

    program = typer.Typer()
    program.command()(command)

    def given(capacity: str, *more: str) -> tuple[int, str]:
        words = ["--out", str(tmp_path), "--capacity", capacity, *more]
        done = CliRunner().invoke(program, words)
        return done.exit_code, done.output

    folder = tmp_path / "knee"
    write_search(folder, Knee(passed=3.25, failed=3.5), [])
    assert given("7.5") == given(str(folder)) == (0, "")
    assert given("7.5", "--set", "load.arrivals.rate=2")[0] == 0
    rates = [load_scenario(each.scenario, each.overrides).load for each in asked]
    assert [load.arrivals.rate for load in rates if load.kind == "open"] == [7.5, 3.25, 2]
    write_search(folder, Knee(failed=0.1), [])
    code, output = given(str(folder))
    assert (code, "found no rate within its objectives" in output) == (2, True)
    code, output = given(str(tmp_path / "gone"))
    assert (code, "must be a number or the folder of a search" in output) == (2, True)
    assert given("-1")[0] == 2


def test_values_that_begin_with_a_dash_reach_locust(tmp_path: Path) -> None:
    launch = Launch(
        scenario="smoke", host="http://x", out=tmp_path, disturb="-x y", workers=2, said="s"
    )
    assert "--disturb=-x y" in launch.arguments()
    assert launch.arguments()[-6:-4] == ["--master-bind-host", "127.0.0.1"]


def saved(folder: Path, records: list[Record]) -> str:
    write_outputs(run(records), load_objectives("interactive"), folder)
    return str(folder)


def test_two_results_are_compared_offline(tmp_path: Path) -> None:
    before = saved(tmp_path / "before", measured(1))
    same = saved(tmp_path / "same", measured(2))
    slower = saved(tmp_path / "slower", measured(3, slower=1.1))
    out = str(tmp_path / "out")
    assert invoke("compare", before, same, "--out", out, "--max-regress", "0.05")[0] == 0
    code, output = invoke("compare", before, slower, "--out", out, "--max-regress", "0.05")
    assert code == 3
    assert "worse" in output
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["paired"] is True
    document = tmp_path / "benchmarks.md"
    assert invoke("report", before, out, "--markdown", str(document))[0] == 0
    text = document.read_text()
    assert text.startswith("# Benchmarks")
    document.write_text(text.replace("# Benchmarks", "# Ours\n\nBy hand.") + "\nAfter.\n")
    assert invoke("report", before, "--markdown", str(document))[0] == 0
    again = document.read_text()
    assert again.startswith("# Ours\n\nBy hand.")
    assert again.endswith("\nAfter.\n")
    assert len(again) < len(text)
    document.write_text(again.replace(END, ""))
    code, output = invoke("report", before, "--markdown", str(document))
    assert (code, "once each" in output) == (2, True)


@pytest.mark.parametrize("name", ["result", "comparison"])
def test_a_result_of_another_version_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    one, two = (saved(tmp_path / side, measured(1, count=20)) for side in "ab")
    assert invoke("compare", one, two, "--out", str(out))[0] == 0
    folder = Path(one) if name == "result" else out
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    code, output = invoke("report", str(folder))
    assert (code, "schema_version must be 3, got 2" in output) == (2, True)


def test_a_folder_without_a_result_is_named(tmp_path: Path) -> None:
    code, output = invoke("compare", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "o"))
    assert code == 4
    assert "holds no result" in output
    assert invoke("report", str(tmp_path))[0] == 2
    code, output = invoke("compare", str(tmp_path), "http://x", "--out", str(tmp_path / "o"))
    assert code == 2
    assert "not one of each" in output


def test_requests_are_saved_a_line_each(tmp_path: Path) -> None:
    saved(tmp_path, [record(i) for i in range(10)])
    with gzip.open(tmp_path / "requests.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert [Record.from_row(row) for row in rows] == [record(i) for i in range(10)]


def test_an_argument_of_the_engine_is_a_key_and_a_value() -> None:
    code, output = invoke("bench", "--out", "out", "--engine", "max_num_seqs")
    assert (code, "--engine: expected KEY=VALUE, got 'max_num_seqs'" in output) == (2, True)
