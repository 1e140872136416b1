"""The dashboards are what Grafana reads, ask for series that exist, and in the right unit."""

import json
import re

import promql_parser
import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.dashboard import PAGES, rendered
from deploy.grafana.panel import Page, Panel, Unit
from tests.deploy.test_rules import RECORDED, ROOT, SUFFIXES
from tests.ops.promql import bound
from tools.metrics_catalogue import catalogue

FOLDER = ROOT / "deploy/grafana"
PANELS = [(page, panel) for page in PAGES for panel in page.panels]
IDS = [f"{page.uid}: {panel.title}" for page, panel in PANELS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_grafana_reads_the_json(page: Page) -> None:
    read = Dashboard.from_json(json.loads(rendered(page)))
    assert (read.uid, read.title) == (page.uid, page.title)
    assert len(read.panels or ()) == len(page.panels) + len(page.rows)


def test_there_is_no_dashboard_without_its_code() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == {page.uid for page in PAGES}


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=IDS)
def test_expressions_are_promql_over_series_that_exist(page: Page, panel: Panel) -> None:
    known = {SUFFIXES.sub("", series.name) for series in catalogue()} | RECORDED
    for query in panel.queries:
        promql_parser.parse(bound(query.expr))
        named = set(re.findall(r"[\w:]*inference_[\w:]+", query.expr))
        assert {SUFFIXES.sub("", name) for name in named} <= known
        labels = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        assert all(label in query.expr or label == "instance" for label in labels)


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=IDS)
def test_units_are_those_of_the_series(page: Page, panel: Panel) -> None:
    for query in panel.queries:
        assert unit_of(query.expr) == panel.unit


def unit_of(expr: str) -> Unit:
    """Unit of an expression of ours, read from its series' names and its arithmetic."""
    counted = (r" / 0\.0", r"\^ 2", "_reads_", r"increase\(", "ALERTS")
    if any(re.search(pattern, expr) for pattern in counted):
        return Unit.COUNT
    if re.search(r" / (ignoring|\()|:ratio|_accuracy|_score_bucket|usage_perc|_UTIL", expr):
        return Unit.SHARE
    if "_seconds" in expr:
        return Unit.SECONDS
    if "rate(" in expr:
        return Unit.TOKENS_PER_SECOND if "_tokens_total" in expr else Unit.REQUESTS_PER_SECOND
    return Unit.COUNT


def test_every_panel_says_what_it_shows_under_a_title_of_its_own() -> None:
    for page in PAGES:
        titles = [panel.title for panel in page.panels]
        assert len(set(titles)) == len(titles)
        assert all(panel.what.endswith(".") for panel in page.panels)
