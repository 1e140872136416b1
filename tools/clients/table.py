"""The table of docs/clients.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.clients.clients import CLIENTS, Trial
from tools.clients.install import versions
from tools.marked import page_with

PAGE = Path("docs/clients.md")

_LANGUAGES = {"python": "Python", "node": "Node", "java": "Java"}


def write(found: Mapping[str, Sequence[Trial]]) -> None:
    """Write the table of what each client's script tried into the page."""
    PAGE.write_text(page_with(PAGE, "clients", table(found)), encoding="utf-8")


def table(found: Mapping[str, Sequence[Trial]]) -> str:
    """A row for each client: its version, what worked, and what did not."""
    lines = ["| client | version | works | fails |", "| --- | --- | --- | --- |"]
    for script, trials in found.items():
        folder = script.partition("/")[0]
        package = CLIENTS[script]
        worked = _listed(trial.what for trial in trials if trial.failure is None)
        failed = _listed(trial.what for trial in trials if trial.failure is not None)
        version = versions(folder).get(package, "")
        lines.append(f"| {package} ({_LANGUAGES[folder]}) | {version} | {worked} | {failed} |")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return "; ".join(names)
