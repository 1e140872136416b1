"""The chart's rules and dashboards are the files of deploy/, and no others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tools.helm.chart import CHART, manifests, merged, one

DEPLOY = CHART.parent / "deploy"
ON = {"monitoring": {name: {"enabled": True} for name in ("prometheusRule", "dashboards")}}


@pytest.mark.parametrize(("folder", "pattern"), [("prometheus", "*.yaml"), ("grafana", "*.json")])
def test_every_file_of_deploy_is_linked(folder: str, pattern: str) -> None:
    linked = {path.name: path.resolve() for path in (CHART / "files" / folder).iterdir()}
    assert linked == {path.name: path.resolve() for path in (DEPLOY / folder).glob(pattern)}


SCOPE = {"job": "llm-llm-service-ops", "namespace": "inference"}


def unscoped(expression: str) -> str:
    """An expression of the chart without the matchers of its release."""
    told = ", ".join(f'{label}="{value}"' for label, value in SCOPE.items())
    return expression.replace(f"{{{told}}}", "").replace(f"{told}, ", "")


def test_rules_are_those_of_deploy_for_the_releases_own_series() -> None:
    groups = one(manifests(ON), "PrometheusRule")["spec"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        rule["expr"] = unscoped(rule["expr"])
    files = sorted((DEPLOY / "prometheus").glob("*.yaml"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert groups == [group for text in texts for group in yaml.safe_load(text)["groups"]]


def selectors(node: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Every selector of series in an expression."""
    match node:
        case promql_parser.VectorSelector():
            yield node
        case promql_parser.MatrixSelector():
            yield node.vector_selector
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case _:
            if (inner := getattr(node, "expr", None)) is not None:
                yield from selectors(inner)


@pytest.mark.parametrize("job", ["", "scraped/llm"])
def test_a_rule_sees_the_series_of_its_own_release_alone(job: str) -> None:
    values = merged(ON, {"monitoring": {"prometheusRule": {"job": job}}})
    wanted = {**SCOPE, "job": job or SCOPE["job"]}.items()
    for group in one(manifests(values), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            found = list(selectors(promql_parser.parse(rule["expr"])))
            assert found, rule
            for selector in found:
                matchers = {each.name: each.value for each in selector.matchers.matchers}
                assert matchers.items() >= wanted, rule["expr"]


def alerts(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The alerts that the chart renders; there are some."""
    found = [
        rule
        for group in one(manifests(values), "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert found
    return found


def test_every_alert_has_a_runbook() -> None:
    for alert in alerts(ON):
        assert (CHART.parent / alert["annotations"]["runbook"]).is_file(), alert["alert"]


def test_alerts_can_link_to_where_their_runbooks_are_read() -> None:
    url = {"monitoring": {"prometheusRule": {"runbooksUrl": "https://wiki.example/runbooks/"}}}
    for alert in alerts(merged(ON, url)):
        links = {key: text for key, text in alert["annotations"].items() if "runbook" in key}
        assert links == {"runbook_url": f"https://wiki.example/runbooks/{alert['alert']}.md"}


@pytest.mark.parametrize("file", sorted((DEPLOY / "grafana").glob("*.json")), ids=lambda f: f.stem)
def test_dashboards_are_those_of_deploy(file: Path) -> None:
    text = one(manifests(ON), "ConfigMap", file.stem)["data"][file.name]
    assert json.loads(text) == json.loads(file.read_text(encoding="utf-8"))
