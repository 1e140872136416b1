"""The panels of the dashboards, queried from a real Prometheus and drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from deploy.grafana.panel import Page, Panel
from tests.ops.promql import bound

Lines = Mapping[str, tuple[list[float], list[float]]]
"""Times in seconds and values, by legend."""

_WINDOW = "10s"
_COLUMNS = 3


async def lines_of(
    http: httpx.AsyncClient, prometheus: str, panel: Panel, start: float, end: float
) -> Lines:
    """Points of a panel from `start` to `end`, in seconds since 1970, without NaN."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for query in panel.queries:
        parameters = {
            "query": bound(query.expr, job="inference", window=_WINDOW),
            "start": str(start),
            "end": str(end),
            "step": "1",
        }
        answer = await http.get(f"{prometheus}/api/v1/query_range", params=parameters)
        for series in answer.raise_for_status().json()["data"]["result"]:
            points = [(float(at) - start, float(v)) for at, v in series["values"] if v != "NaN"]
            if points:
                times, values = zip(*points, strict=True)
                lines[_legend(query.legend, series["metric"])] = (list(times), list(values))
    return lines


def plot(page: Page, shown: Mapping[str, Lines], file: Path) -> None:
    """Draw a dashboard's panels, by title, into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(page.panels) // _COLUMNS)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(16, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(page.panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.flat, page.panels, strict=False):
        _draw(axis, panel, shown[panel.title])
    figure.suptitle(page.title, fontsize=13)
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(file, dpi=70)
    pyplot.close(figure)


def _draw(axis: Any, panel: Panel, lines: Lines) -> None:
    for legend, (times, values) in sorted(lines.items()):
        axis.plot(times, values, label=legend[:40], linewidth=1.2)
    axis.set_title(f"{panel.title} [{panel.unit.value.removeprefix('suffix: ')}]", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if not panel.signed:
        axis.set_ylim(bottom=0)
    if lines:
        axis.legend(fontsize=6, loc="best", ncols=2 if len(lines) > 4 else 1)


def _legend(template: str, labels: Mapping[str, str]) -> str:
    for name in ("__name__", *labels):
        template = template.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return template
