"""The chart's rules and dashboards are the files of deploy/, and no others."""

import json
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, manifests, one

DEPLOY = CHART.parent / "deploy"
ON = {"monitoring": {name: {"enabled": True} for name in ("prometheusRule", "dashboards")}}


@pytest.mark.parametrize(("folder", "pattern"), [("prometheus", "*.yaml"), ("grafana", "*.json")])
def test_every_file_of_deploy_is_linked(folder: str, pattern: str) -> None:
    linked = {path.name: path.resolve() for path in (CHART / "files" / folder).iterdir()}
    assert linked == {path.name: path.resolve() for path in (DEPLOY / folder).glob(pattern)}


def test_rules_are_those_of_deploy() -> None:
    groups = one(manifests(ON), "PrometheusRule")["spec"]["groups"]
    files = sorted((DEPLOY / "prometheus").glob("*.yaml"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert groups == [group for text in texts for group in yaml.safe_load(text)["groups"]]


def test_every_alert_has_a_runbook() -> None:
    alerts = [
        rule
        for group in one(manifests(ON), "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert alerts
    for alert in alerts:
        assert (CHART.parent / alert["annotations"]["runbook"]).is_file(), alert["alert"]


@pytest.mark.parametrize("file", sorted((DEPLOY / "grafana").glob("*.json")), ids=lambda f: f.stem)
def test_dashboards_are_those_of_deploy(file: Path) -> None:
    text = one(manifests(ON), "ConfigMap", file.stem)["data"][file.name]
    assert json.loads(text) == json.loads(file.read_text(encoding="utf-8"))
