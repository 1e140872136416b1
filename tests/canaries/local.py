"""Next versions of the releases of deploy/local/canary.yaml: `python -m tests.canaries.local`.

Writes them into .cache/canaries, where the configuration expects them, and prints their digests.
"""

from pathlib import Path

from service.models.base_model import read_base_model
from tests.canaries.kinds import KINDS
from tests.canaries.plans import MODEL, NEXT
from tests.canaries.successors import write
from tests.served.configuration import SMOLLM2
from tools.command_line import command_line

FOLDER = Path(".cache/canaries")
RELEASES = {"good": "equal", "bad": "abstaining"}
"""Kinds of the next versions, by the release's name."""


def write_all(folder: Path) -> dict[str, str]:
    """Write the next versions into a folder; the digest of each."""
    base = read_base_model(SMOLLM2, name=MODEL, max_rank=8)
    return {name: write(base, KINDS[kind], NEXT, folder / name) for name, kind in RELEASES.items()}


if __name__ == "__main__":
    command_line("tests.canaries.local", __doc__).parse_args()
    for name, digest in write_all(FOLDER).items():
        print(f"{FOLDER / name}: {digest}")
