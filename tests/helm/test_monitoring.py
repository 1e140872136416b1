"""The chart's rules and dashboards are the files of deploy/, and no others."""

import json
import re
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


PODS = (
    "llm-llm-service-([0-9]+(-[0-9]+)?|[bcdfghjklmnpqrstvwxz24-9]+-[bcdfghjklmnpqrstvwxz24-9]{5})"
)
KUBERNETES = {
    "pod": {"namespace": "inference", "pod": PODS},
    "deployment": {"namespace": "inference", "deployment": "llm-llm-service"},
    "statefulset": {"namespace": "inference", "statefulset": "llm-llm-service(-[0-9]+)?"},
}
STARTS = ("InferencePodNotReady", "InferenceReplicasMissing")
"""Alerts that wait for as long as a start of the release may take."""


def unscoped(expression: str) -> str:
    """An expression of the chart without the matchers of its release."""
    for scope in (SCOPE, *KUBERNETES.values()):
        told = ", ".join(
            f'{label}{"=~" if "(" in value else "="}"{value}"' for label, value in scope.items()
        )
        expression = expression.replace(f"{{{told}}}", "").replace(f"{told}, ", "")
    return expression


def test_rules_are_those_of_deploy_for_the_releases_own_series() -> None:
    groups = one(manifests(ON), "PrometheusRule")["spec"]["groups"]
    files = sorted((DEPLOY / "prometheus").glob("*.yaml"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    written = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    for rule in (rule for group in (*groups, *written) for rule in group["rules"]):
        rule["expr"] = unscoped(rule["expr"])
        if rule.get("alert") in STARTS:
            del rule["for"]
    assert groups == written


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
    own = {**SCOPE, "job": job or SCOPE["job"]}
    for group in one(manifests(values), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            found = list(selectors(promql_parser.parse(rule["expr"])))
            assert found, rule
            for selector in found:
                matchers = {each.name: each.value for each in selector.matchers.matchers}
                kind = re.match("kube_([a-z]+)_", selector.name or "")
                wanted = KUBERNETES[kind[1]] if kind else own
                assert matchers.items() >= wanted.items(), rule["expr"]


@pytest.mark.parametrize(
    ("pod", "ours"),
    [
        ("llm-llm-service-6d4cf56db6-8xk2p", True),
        ("llm-llm-service-0", True),
        ("llm-llm-service-0-1", True),
        ("llm-llm-service-prefetch-8xk2p", False),
        ("llm-llm-service-canary-6d4cf56db6-8xk2p", False),
        ("llm-llm-service-canary-0", False),
    ],
)
def test_pods_are_told_by_their_names(pod: str, ours: bool) -> None:
    assert (re.fullmatch(PODS, pod) is not None) is ours


def test_alerts_on_pods_wait_for_as_long_as_a_start_may_take() -> None:
    slow = {"model": {"weightsGiB": 140, "prefetch": {"timeoutSeconds": 3600}}}
    times = {each["alert"]: each.get("for") for each in alerts(merged(ON, slow))}
    # 120 s, 15 s for each GiB, and the fetch.
    assert {times[name] for name in STARTS} == {"97m"}


def test_values_change_alerts() -> None:
    changes = {
        "InferenceGoodputBurnFast": {"threshold": 0.01, "severity": "wake"},
        "InferencePodNotReady": {"for": "2h"},
        "InferenceBatchIdle": {"enabled": False},
    }
    values = merged(ON, {"monitoring": {"prometheusRule": {"alerts": changes}}})
    plain = {each["alert"]: each for each in alerts(ON)}
    changed = {each["alert"]: each for each in alerts(values)}
    assert plain.keys() - changed.keys() == {"InferenceBatchIdle"}
    burn = changed["InferenceGoodputBurnFast"]
    assert burn["labels"] == {"severity": "wake"}
    assert burn["annotations"]["threshold"] == "0.01"
    assert burn["expr"].count("* 0.01") == 6
    assert burn["expr"].replace("* 0.01", "* 0.05") == plain[burn["alert"]]["expr"]
    assert changed["InferencePodNotReady"]["for"] == "2h"
    same = plain.keys() - changes.keys()
    assert {name: changed[name] for name in same} == {name: plain[name] for name in same}


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
