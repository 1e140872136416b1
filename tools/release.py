"""Check that a release's files name one version, and print its notes.

    python -m tools.release vX.Y.Z

Prints the version's section of CHANGELOG.md. Ends with 1 and a line for each file that names
another version. Runs before anything is installed, so it imports the standard library only.
"""

import re
import sys
from pathlib import Path

from tools.command_line import command_line

ROOT = Path(__file__).parents[1]

_VERSIONS = {
    "pyproject.toml": r'^version = "([^"]+)"',
    "helm/Chart.yaml": r'^appVersion: "([^"]+)"',
    "Dockerfile": r"^ARG VERSION=(\S+)",
}
"""The line of each file that names the version."""


def main(tag: str, root: Path = ROOT) -> int:
    """Print the notes of a tag; returns the exit code."""
    version = tag.removeprefix("v")
    notes = notes_of(version, (root / "CHANGELOG.md").read_text(encoding="utf-8"))
    faults = disagreements(version, root)
    if not notes:
        faults.append(f"CHANGELOG.md: no section `## [{version}]`")
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    print(notes)
    return 0


def disagreements(version: str, root: Path) -> list[str]:
    """A line for each file that names a version other than this one."""
    faults = []
    for name, pattern in _VERSIONS.items():
        text = (root / name).read_text(encoding="utf-8")
        found = set(re.findall(pattern, text, re.MULTILINE))
        if found != {version}:
            faults.append(f"{name}: version {', '.join(sorted(found)) or 'missing'}, not {version}")
    return faults


def notes_of(version: str, changelog: str) -> str:
    """The text of a version's section; empty if there is none."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    (*_, text) = [""] + [part for part in sections if part.startswith(f"[{version}]")]
    return text.partition("\n")[2].strip()


if __name__ == "__main__":
    parser = command_line("tools.release", __doc__)
    parser.add_argument("tag", metavar="vX.Y.Z", help="tag of the release")
    given: str = parser.parse_args().tag
    if not given.startswith("v"):
        parser.error(f"vX.Y.Z: must begin with v, got {given}")
    sys.exit(main(given))
