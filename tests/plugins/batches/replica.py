"""A replica over the fake engine in a process of its own, until its input ends.

    python -m tests.plugins.batches.replica FOLDER STORAGE

Writes its address. Its files are below s3://models/batches.
"""

import logging
import sys
from pathlib import Path

from service.plugins.batches import shared_store
from service.plugins.batches.settings import BatchSettings
from tests.live_service import LiveService


def main() -> None:
    """Serve."""
    folder, storage = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    shared_store.LEASE_SECONDS = 3.0  # not 15: the tests wait for its end
    batches = BatchSettings(path=Path(folder), files="s3://models/batches", storage=storage)
    with LiveService(token_seconds=0.02, batches=batches) as live:
        sys.stdout.write(f"{live.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
