"""Panels of a dashboard, each of a few expressions in one unit."""

from dataclasses import dataclass
from enum import StrEnum

_PROMISED = 'service_tier!="flex"'


class Unit(StrEnum):
    """Grafana's names of the units in use."""

    SECONDS = "s"
    SHARE = "percentunit"
    REQUESTS_PER_SECOND = "reqps"
    TOKENS_PER_SECOND = "suffix: tokens/s"
    COUNT = "short"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the legend of its series, in Grafana's `{{label}}` form.

    `$job` is the dashboard's variable; `$__rate_interval` is Grafana's, at least four scrapes.
    """

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time; its axis begins at 0 unless it is `signed`."""

    title: str
    what: str
    unit: Unit
    queries: tuple[Query, ...]
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below one headline."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole dashboard; `uid` is the name of its file and of its address."""

    uid: str
    title: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        """The panels of all rows."""
        return [panel for row in self.rows for panel in row.panels]


def rate(series: str, by: str, labels: str = "") -> str:
    """The rate per second of a counter, summed over all labels but these."""
    chosen = ", ".join(filter(None, ['job=~"$job"', labels]))
    return f"sum by ({by}) (rate({series}{{{chosen}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str, labels: str = "") -> str:
    """A quantile of a histogram, over all labels but these."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', f'{by}, le', labels)})"


def quantiles(histogram: str, by: str, *shares: float) -> tuple[Query, ...]:
    """Some quantiles of a histogram, a line for each and for each value of `by`.

    Without requests of the tier flex, which wait for minutes.
    """
    return tuple(
        Query(quantile(share, histogram, by, _PROMISED), f"p{share * 100:g} {{{{{by}}}}}")
        for share in shares
    )
