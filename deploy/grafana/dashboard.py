"""The dashboards as Grafana reads them."""

import json

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableRefresh,
)

from deploy.grafana import adapters_classification, service_objectives, tenants_fairness
from deploy.grafana.panel import Page, Panel

PAGES = (service_objectives.PAGE, tenants_fairness.PAGE, adapters_classification.PAGE)

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _HEIGHT = 8, 8
_REFS = "ABCDEFGH"
_OF_10 = ("auto", "auto_count", "auto_min", "id")
"""Fields of variables."""


def rendered(page: Page) -> str:
    """The dashboard's JSON, indented, with a last line end."""
    builder = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .tags(["inference"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("job")
            .datasource(_SOURCE)
            .query("label_values(inference_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
        )
    )
    for row in page.rows:
        builder = builder.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel))
    tree = json.loads(JSONEncoder().encode(builder.build()))
    # Fields of Grafana 10 that the SDK writes and today's schema has no more.
    del tree["style"]
    for variable in tree["templating"]["list"]:
        for name in _OF_10:
            del variable[name]
    return json.dumps(tree, sort_keys=True, indent=2) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.what)
        .unit(panel.unit.value)
        .datasource(_SOURCE)
        .span(_WIDTH)
        .height(_HEIGHT)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if not panel.signed:
        built = built.min(0)
    for ref, query in zip(_REFS, panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref)
        built = built.with_target(target)
    return built
