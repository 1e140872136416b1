"""Imports within the load tests, and the small parts of drive/ that need no Locust."""

import ast
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any

import pytest

from loadtests.analysis.objectives import Limits, Objectives
from loadtests.analysis.run import Target
from loadtests.drive import controller as controller_module
from loadtests.drive import meter as meter_module
from loadtests.drive.controller import Controller
from loadtests.drive.meter import Meter
from loadtests.drive.options import Options, read_options
from loadtests.launch import Launch
from loadtests.load.scenario import ScenarioError, load_scenario
from loadtests.target import ask_model, read_metrics, tenant_keys
from service.settings.tree import TenantSettings
from tests.live_service import LiveService
from tests.loadtests.records import record
from tests.loadtests.scenarios import scenario
from tools.keys import bearer, entry, write_keys

PACKAGE = Path(__file__).parents[2] / "loadtests"
GREEN = {"gevent", "geventhttpclient", "locust", "flask"}
IMPURE = {"asyncio", "socket", "subprocess", "time", "threading", "urllib", "httpx"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_only_the_drive_imports_gevent() -> None:
    for path in PACKAGE.rglob("*.py"):
        inside = path.parent.name == "drive" or path.name in {"locustfile.py", "example_user.py"}
        assert inside or not imported(path) & GREEN, path


@pytest.mark.parametrize("package", ["load", "protocol", "analysis", "report"])
def test_the_rest_has_no_clock_and_no_network(package: str) -> None:
    for path in (PACKAGE / package).glob("*.py"):
        assert not imported(path) & (IMPURE | {"service"}), path


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_averages_over_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, cpu = Clock(), Clock()
    monkeypatch.setattr(meter_module, "perf_counter", wall)
    monkeypatch.setattr(meter_module, "process_time", cpu)
    meter = Meter(3, start=0.0)
    wall.now = 1.0
    meter.enter()
    meter.enter()
    wall.now = 3.0
    meter.leave()
    wall.now, cpu.now = 4.0, 1.0
    sample = meter.sample()
    assert sample.row() == [3, 4.0, 4.0, 0.25, 1.25]
    wall.now = 5.0
    assert meter.sample().in_flight == 1.0


FOUR = {"kind": "fixed", "tokens": 4}


def controller(
    epoch: float, workers: int = 2, objectives: Objectives | None = None, **fields: Any
) -> Controller:
    options = Options(
        launch=Launch("test", "http://x"),
        scenario=scenario(**fields),
        objectives=objectives,
        target=Target("http://x", "native", "base"),
    )
    return Controller(options, epoch, workers)


def part(*indices: int, done: bool) -> dict[str, Any]:
    return {"records": [record(i).row() for i in indices], "samples": [], "done": done}


def test_a_run_is_over_when_every_worker_says_so() -> None:
    master = controller(time())
    master.absorb("w1", part(2, 0, done=True))
    assert not master.over()
    master.absorb("w2", part(1, done=False))
    assert not master.over()
    master.absorb("w2", part(done=True))
    assert master.over()
    run = master.conclude()
    assert [r.index for r in run.records] == [0, 1, 2]
    assert run.stopped is None


@pytest.mark.parametrize(("kind", "doomed"), [("chat", True), ("session", False)])
def test_a_run_is_doomed_where_it_is_known_how_many_requests_come(kind: str, doomed: bool) -> None:
    workload: dict[str, Any] = {"kind": kind, "output": FOUR, "input": FOUR}
    workload |= {"turns": FOUR} if kind == "session" else {}
    slo = Objectives(name="slo", goodput=0.99, limits=Limits(ttft_ms=400))
    master = controller(time(), objectives=slo, workloads=[workload])
    failed = [record(i, outcome="refused").row() for i in range(20)]
    master.absorb("w1", {"records": failed, "samples": [], "done": False})
    assert master.doomed() is doomed
    master.conclude()


def test_a_worker_that_never_reports_is_given_up() -> None:
    master = controller(time() - 1000)
    master.absorb("w1", part(0, done=True))
    assert master.over()
    assert master.conclude().stopped == "1 of 2 workers did not report their end"


def test_a_run_that_is_stopped_by_hand_says_so() -> None:
    master = controller(time())
    assert not master.over()
    assert master.conclude().stopped == "the run was stopped by hand"


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    fairness = load_scenario("fairness")
    monkeypatch.setenv("LOADTEST_KEY_HEAVY", "one")
    monkeypatch.delenv("LOADTEST_KEY_LIGHT", raising=False)
    with pytest.raises(ScenarioError, match="'light': the environment variable LOADTEST_KEY_LIGHT"):
        tenant_keys(fairness)
    monkeypatch.setenv("LOADTEST_KEY_LIGHT", "two")
    assert tenant_keys(fairness) == {"heavy": "one", "light": "two"}


def test_a_server_with_keys_says_how_to_send_one(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("one"))
    smoke = load_scenario("smoke")
    with LiveService(tenants=TenantSettings(keys=keys)) as live:
        with pytest.raises(ScenarioError, match=r"401: .*--header 'Authorization: Bearer KEY'"):
            ask_model(live.url, smoke, {})
        with pytest.raises(ScenarioError, match=r"404: .*give --model"):
            ask_model(f"{live.url}/nowhere", smoke, bearer("one"))
    with pytest.raises(ScenarioError, match="cannot be reached: "):
        ask_model(live.url, smoke, {})


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "//v1"])
def test_the_host_may_have_the_form_of_openais_base_url(path: str) -> None:
    given = Namespace(**asdict(Launch("smoke", "", model="m")))
    assert read_options(given, f"https://a:8000{path}").target.host == "https://a:8000"


def test_a_host_with_another_path_is_refused() -> None:
    given = Namespace(**asdict(Launch("smoke", "", model="m")))
    with pytest.raises(ScenarioError, match=r"--host must be .* or with /v1, got 'http://a/v1/b'"):
        read_options(given, "http://a/v1/b")


def test_unread_metrics_say_why() -> None:
    assert read_metrics("") == ("", "no metrics URL was given")
    page, reason = read_metrics("http://127.0.0.1:9/metrics")
    assert page == ""
    assert "http://127.0.0.1:9/metrics could not be read" in reason


def test_a_long_run_does_not_grow_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "LATEST", 50)
    master = controller(time(), workers=1)
    for begin in range(0, 1000, 20):
        master.absorb("w1", part(*range(begin, begin + 20), done=begin == 980))
        assert len(master.run.records) <= 50
    assert "1000 answered, 1000 ok" in master.progress()
    assert [r.index for r in master.conclude().records] == list(range(1000))
