"""Checks of the compose file that need no Docker."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alertmanager.receiver import PORT
from loadtests.load.scenario import load_scenario
from service.settings.load import load_settings
from tests.deploy.test_rules import ROOT
from tools.programs import run

DEPLOY = ROOT / "deploy"
ADAPTERS = DEPLOY / "local/adapters"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("service", "service-gpu")
RESULTS = "../loadtests/out"


def by_default(text: str) -> str:
    """A text in which each variable has the value that it has when it is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_it_has_the_service_and_all_that_watches_it() -> None:
    assert SERVICES.keys() == {
        *OURS, "valkey", "prometheus", "alertmanager", "alerts", "grafana", "otel-collector",
        "locust",
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_mounts_is_there_and_read_only_but_results(name: str) -> None:
    for mount in map(by_default, SERVICES[name].get("volumes", ())):
        source, _, mode = mount.partition(":")[0], mount, mount.rpartition(":")[2]
        if source in COMPOSE["volumes"]:
            continue
        assert (mode == "ro") != (source == RESULTS)
        made = source == "../.cache/models"  # by `make setup`
        assert made or (DEPLOY / source).exists(), mount


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_of_one_version_and_ports_stay_on_this_machine(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:[\w.-]+", SERVICES[name]["image"])
    assert not SERVICES[name]["image"].endswith(":latest")
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_one_of_the_cpu_and_the_gpu_service_runs_and_never_as_root() -> None:
    assert (DEPLOY / ".env").read_text() == "COMPOSE_PROFILES=cpu\n"
    assert [SERVICES[name]["profiles"] for name in OURS] == [["cpu"], ["gpu"]]
    for name in OURS:
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert "8001" not in str(SERVICES[name]["ports"])


def test_the_gpu_service_can_load_what_triton_compiles() -> None:
    (mount,) = SERVICES["service-gpu"]["tmpfs"]
    path, _, options = mount.partition(":")
    assert path == "/tmp"
    assert "exec" in options.split(",")


def test_the_gpu_service_serves_a_model_of_the_users_choice(tmp_path: Path) -> None:
    own = {"CONFIG": "/srv/config.yaml", "MODELS": "/srv/models", "ADAPTERS": "/srv/adapters"}
    mounts = [
        re.sub(r"\$\{(\w+):-[^}]*\}", lambda match: own[match[1]], mount).split(":")
        for mount in SERVICES["service-gpu"]["volumes"]
    ]
    inside = {source: Path(target) for source, target, _ in mounts}
    folder = inside["/srv/config.yaml"].parent
    # `init` writes paths that begin at the configuration's folder, and so does `model fetch`.
    file = tmp_path / "config.yaml"
    file.write_text("model: {name: mine, path: models/mine}\nadapters: [{source: adapters/a}]\n")
    settings = load_settings(file)
    assert settings.model is not None
    assert folder / settings.model.path.relative_to(tmp_path).parent == inside["/srv/models"]
    source = Path(settings.adapters[0].source).relative_to(tmp_path)
    assert folder / source.parent == inside["/srv/adapters"]
    assert SERVICES["service-gpu"]["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]


def test_the_gpu_service_is_configured_for_a_gpu() -> None:
    assert "${CONFIG:-./compose/gpu.yaml}" in str(SERVICES["service-gpu"]["volumes"])
    engine = load_settings(DEPLOY / "compose/gpu.yaml").engine
    assert "enforce_eager" not in engine
    assert engine["gpu_memory_utilization"] == 0.9


def test_the_service_has_time_to_drain_and_a_configuration_that_is_valid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SERVICES["service"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(DEPLOY / "compose/config.yaml")
    grace = float(SERVICES["service"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain.lame_duck_s + settings.drain.budget_s + 5 + 6 + 3
    assert settings.tracing.endpoint == "http://otel-collector:4317"


def test_the_cpu_image_takes_torch_from_the_index_that_is_given() -> None:
    build = SERVICES["service"]["build"]
    assert build["args"] == {"TORCH_INDEX": "${TORCH_INDEX:-}"}
    stages = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    (packages,) = [stage for stage in stages if " AS cpu-packages\n" in stage]
    assert re.findall(r"^ARG (TORCH_INDEX)=$", packages, re.MULTILINE) == list(build["args"])


@pytest.mark.parametrize("name", ["config", "gpu"])
def test_every_demo_adapter_is_served_and_has_room(name: str) -> None:
    settings = load_settings(DEPLOY / f"compose/{name}.yaml")
    folders = {on_this_machine(SERVICES["service"], a.source) for a in settings.adapters}
    assert folders == set(ADAPTERS.iterdir())
    for folder in folders:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["r"] <= settings.max_lora_rank


def test_the_load_is_over_served_adapters_and_its_results_stay() -> None:
    locust = SERVICES["locust"]
    options = dict(word.removeprefix("--").split("=") for word in locust["command"][1:])
    scenario = load_scenario(str(on_this_machine(locust, options["scenario"])))
    assert scenario.adapters
    assert set(scenario.adapters.names) <= {folder.name for folder in ADAPTERS.iterdir()}
    assert {workload.kind for workload in scenario.workloads} == {"chat", "classify"}
    assert on_this_machine(locust, options["out"]) == DEPLOY / RESULTS / "compose"
    assert (DEPLOY / RESULTS / ".gitkeep").is_file(), "Docker would make it, as root's"


def on_this_machine(service: dict[str, Any], path: str) -> Path:
    """The file or folder that a path in a container is mounted from."""
    for mount in service["volumes"]:
        source, target, *_ = map(str, mount.split(":"))
        if Path(path).is_relative_to(target):
            return DEPLOY / source / Path(path).relative_to(target)
    raise AssertionError(f"{path} is in no mount")


def test_alerts_are_delivered_to_a_container_that_prints_them() -> None:
    text = (DEPLOY / "alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    urls = [
        hook["url"]
        for receiver in yaml.safe_load(text)["receivers"]
        for hook in receiver["webhook_configs"]
    ]
    assert urls == [f"http://alerts:{PORT}/{name}" for name in ("pages", "tickets")]
    script = on_this_machine(SERVICES["alerts"], SERVICES["alerts"]["command"][-1])
    assert script == DEPLOY / "alertmanager/receiver.py"


def test_prometheus_scrapes_the_operations_port_and_loads_every_rule() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    targets = [t for job in config["scrape_configs"] for t in job["static_configs"][0]["targets"]]
    assert "service:8001" in targets
    mounted = str(SERVICES["prometheus"]["volumes"])
    # Nothing here has the series of kube-state-metrics.
    files = {f.name for f in (DEPLOY / "prometheus").glob("*.yaml")} - {"kubernetes.yaml"}
    assert all(f"rules/{name}" in mounted for name in files)
    run("promtool", "check", "config", "--syntax-only", str(DEPLOY / "prometheus/prometheus.yml"))


def test_grafana_is_given_every_dashboard() -> None:
    grafana = SERVICES["grafana"]
    mounted = str(grafana["volumes"])
    assert all(f"/dashboards/{f.name}" in mounted for f in (DEPLOY / "grafana").glob("*.json"))
    first = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert on_this_machine(grafana, first).is_file()
