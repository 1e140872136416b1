"""Dashboards by today's Grafana's schema; rules and routes in newer programs than Debian's stable.

    make dashboards-check OPTIONS="--suite forky"

Takes a minute. Says at the end what was not started.
"""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from deploy.grafana.dashboard import PAGES, rendered
from loadtests.processes import PATIENCE_S, wait_until
from tests.ops import grafana
from tests.ops.exporters import exporters
from tests.ops.programs import Program, alertmanager, prometheus
from tests.ops.promql import bound
from tests.ops.rules import ALERTS, rules
from tests.ops.webhook import webhook
from tests.options import check_options, given
from tools.programs import of_suite

pytestmark = [pytest.mark.dashboards, pytest.mark.timeout(0)]


def test_grafanas_own_schema_takes_every_dashboard_and_panel() -> None:
    schemas = grafana.grafana_schemas()
    whole, options, custom = map(
        jsonschema_rs.Draft7Validator, (schemas.dashboard, schemas.options, schemas.custom)
    )
    wrong, panels = [], 0
    for page in PAGES:
        tree = json.loads(rendered(page))
        found = [(whole, tree)]
        for panel in tree["panels"]:
            if panel["type"] == "timeseries":
                panels += 1
                found += [(options, panel["options"])]
                found += [(custom, panel["fieldConfig"]["defaults"]["custom"])]
        for schema, part in found:
            wrong += [f"{page.uid}: {error.message[:300]}" for error in schema.iter_errors(part)]
    assert wrong == []
    assert panels == sum(len(page.panels) for page in PAGES)
    tell(f"{len(PAGES)} dashboards, {panels} panels by @grafana/schema {grafana.VERSION}")


def test_newer_programs_take_the_rules_the_panels_and_the_routes() -> None:
    parser = check_options("dashboards-check", __doc__)
    parser.add_argument("--suite", default="forky", help="Debian's suite of the programs.")
    suite = given(parser).suite
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        deliveries = stack.enter_context(webhook())
        found = [of_suite(each, suite) for each in ("prometheus", "prometheus-alertmanager")]
        alerts = stack.enter_context(alertmanager(folder, deliveries.url, found[1]))
        pages = stack.enter_context(exporters())
        watcher = stack.enter_context(prometheus(folder, 9, pages.address, alerts.url, found[0]))
        with httpx.Client(timeout=30, trust_env=False) as http:
            _check_rules(http, watcher)
            for page in PAGES:
                for panel in page.panels:
                    for query in panel.queries:
                        asked = {"query": bound(query.expr)}
                        answer = http.get(f"{watcher.url}/api/v1/query", params=asked)
                        assert answer.status_code == 200, f"{panel.title}: {answer.text}"
            pages.restarting = True
            wait_until(
                lambda: "InferenceRestarting" in deliveries.fired, 2 * PATIENCE_S, "an alert"
            )
            for program, url in (("Prometheus", watcher.url), ("Alertmanager", alerts.url)):
                tell(f"{program} {_version(http, url)} of {suite}: started")
    tell("not started: Grafana and the OpenTelemetry collector, which Debian, PyPI and npm lack")


def _check_rules(http: httpx.Client, watcher: Program) -> None:
    groups = http.get(f"{watcher.url}/api/v1/rules").json()["data"]["groups"]
    read = [rule for group in groups for rule in group["rules"]]
    assert len(read) == len(ALERTS) + len(rules("recording.yaml"))
    assert [rule["name"] for rule in read if rule.get("lastError")] == []


def _version(http: httpx.Client, url: str) -> str:
    if (answer := http.get(f"{url}/api/v1/status/buildinfo")).is_success:
        data: dict[str, Any] = answer.json()["data"]
        return str(data["version"])
    return str(http.get(f"{url}/api/v2/status").json()["versionInfo"]["version"])


def tell(line: str) -> None:
    """Print a line on the run."""
    print(f"dashboards: {line}", flush=True)
