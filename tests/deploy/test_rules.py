"""Every alert fires when it should, stays quiet when it should, and names its runbook."""

import re
from pathlib import Path

import pytest
import yaml

from tests.ops.rules import ALERTS, PROMETHEUS, rules
from tools.metrics_catalogue import catalogue
from tools.programs import run

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "deploy/runbooks"
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
SECTIONS = ("What it means", "What it does to users", "Where to look", "What to do")
SUFFIXES = re.compile("_(bucket|count|sum)$")


RECORDED = {rule["record"] for rule in rules("recording.yaml")}


def test_prometheus_takes_the_rules() -> None:
    run("promtool", "check", "rules", "--lint=all", *map(str, sorted(PROMETHEUS.glob("*.yaml"))))


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(file: Path) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", str(file))


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_quiet(alert: str) -> None:
    firing = quiet = 0
    for file in TESTS:
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            if case["name"].split()[0] != alert:
                continue
            told = [s["labels"] for c in case["promql_expr_test"] for s in c["exp_samples"]]
            fires = any(f'alertname="{alert}"' in labels for labels in told)
            assert fires == (case["name"].split()[1] == "fires"), case["name"]
            firing, quiet = firing + fires, quiet + (not fires)
    assert firing
    assert quiet


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_has_a_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() - {"threshold"} == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"deploy/runbooks/{alert}.md"
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert re.findall("^#+ (.*)$", text, re.M) == [alert, *SECTIONS]


def test_the_page_on_observability_lists_every_alert_with_its_severity() -> None:
    page = (ROOT / "docs/howto/observability.md").read_text(encoding="utf-8")
    line = r"^- \[(Inference\w+)\]\((?:\.\./)+deploy/runbooks/\1\.md\) \((\w+)[,)]"
    listed = re.findall(line, page, re.MULTILINE)
    assert listed == [(name, rule["labels"]["severity"]) for name, rule in ALERTS.items()]


@pytest.mark.parametrize("alert", ALERTS)
def test_the_threshold_of_an_alert_is_what_it_compares_with(alert: str) -> None:
    rule = ALERTS[alert]
    if given := rule["annotations"].get("threshold"):
        compared = rf"(>=?|>=? [\d.]+ \*) {re.escape(given)}(\s|$)"
        named = re.findall(rf"\s{re.escape(given)}(?=\s|$)", rule["expr"])
        assert named
        assert len(re.findall(compared, rule["expr"])) == len(named)


def test_there_is_no_runbook_without_its_alert() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"README"} == ALERTS.keys()


def test_rules_and_runbooks_name_series_that_exist() -> None:
    known = {series.name for series in catalogue()} | RECORDED
    texts = [rule["expr"] for rule in [*ALERTS.values(), *rules("recording.yaml")]]
    texts += re.findall("`([^`]+)`", "".join(f.read_text() for f in RUNBOOKS.glob("*.md")))
    named = {name for text in texts for name in re.findall(r"[\w:]*inference_[\w:]+", text)}
    assert {SUFFIXES.sub("", name) for name in named} <= {SUFFIXES.sub("", n) for n in known}


def test_alertmanager_takes_its_configuration_and_routes_by_severity() -> None:
    config = str(ROOT / "deploy/alertmanager/alertmanager.yml")
    run("amtool", "check-config", config)
    for severity, receiver in (("page", "pages"), ("ticket", "tickets")):
        told = run("amtool", "config", "routes", "test", f"--config.file={config}",
                   f"severity={severity}")  # fmt: skip
        assert told.strip() == receiver
