"""Page of a report: one HTML file that needs no network."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from evaluation.report import Report

_LEFT, _TOP, _SIZE = 46.0, 12.0, 240.0


def page(report: Report) -> str:
    """The page of a report; texts from a service or a suite are escaped."""
    return _ENVIRONMENT.get_template("report.html").render(report=report)


def _across(share: float) -> float:
    """The place of a share of 0..1 from left to right."""
    return round(_LEFT + _SIZE * share, 1)


def _up(share: float) -> float:
    """The place of a share of 0..1 from the bottom up."""
    return round(_TOP + _SIZE * (1 - share), 1)


_ENVIRONMENT = Environment(
    loader=PackageLoader("evaluation"),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals |= {"across": _across, "up": _up}
