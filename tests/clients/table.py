"""The list of docs/clients.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clients.clients import CLIENTS, Trial
from tests.clients.install import versions
from tools.markdown_pages import replaced

PAGE = Path("docs/clients.md")

_LANGUAGES = {"python": "Python", "node": "Node", "java": "Java"}


def write(found: Mapping[str, Sequence[Trial]]) -> None:
    """Write what each client's script tried into the list of the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, "clients", table(found, page)), encoding="utf-8")


def table(found: Mapping[str, Sequence[Trial]], page: str = "") -> str:
    """A line for each client: its version, how many trials worked, and which did not.

    Lines of clients that did not run are those of the page.
    """
    kept = {name: line for line in page.splitlines() for name in CLIENTS if _is_of(line, name)}
    lines = kept | {script: _line(script, trials) for script, trials in found.items()}
    return "\n".join(lines[script] for script in CLIENTS if script in lines)


def _line(script: str, trials: Sequence[Trial]) -> str:
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        if trial.failure is not None:
            reasons.setdefault(f" ({trial.because})" if trial.because else "", []).append(
                trial.what
            )
    failed = "; ".join(f"{', '.join(names)}{reason}" for reason, names in reasons.items())
    worked = sum(trial.failure is None for trial in trials)
    line = f"{_opening(script)}{version_of(script)}: {worked}/{len(trials)}"
    return f"{line}, **not** {failed}" if failed else line


def version_of(script: str) -> str:
    """The pinned version of a client's package, which may be named with an extra."""
    return versions(script)[CLIENTS[script].partition("[")[0]]


def _is_of(line: str, script: str) -> bool:
    return line.startswith(_opening(script))


def _opening(script: str) -> str:
    return f"- {CLIENTS[script]} ({_LANGUAGES[script.partition('/')[0]]}) "
