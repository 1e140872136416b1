"""Every client of docs/clients.md against the service with its local configuration.

    make clients OPTIONS="--url http://127.0.0.1:8000 --only ai-sdk lm-eval"

Installs the pinned packages into .cache/clients, starts the service unless an address is given, and
prints a line for each thing that a client tried. It fails if one failed and its script does not say
that others are at fault. Without npm or a JDK their clients are left out. `--write` writes the rows
of the clients that ran into the table of docs/clients.md.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.common.command_line import service_address
from service.settings.load import load_settings
from tests.clients.clients import CLIENTS, Trial, trials
from tests.clients.install import install
from tests.clients.table import write
from tests.options import check_options, given
from tests.served.server import running_server

_CONFIG = Path("deploy/local/config.yaml")

pytestmark = [pytest.mark.clients, pytest.mark.timeout(0)]


def test_every_client_works() -> None:
    parser = check_options("clients", __doc__)
    parser.add_argument("--url", help="The address of a service; without it one is started.")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="Parts of the names of the scripts to run."
    )
    parser.add_argument("--write", action="store_true", help="Write the table of docs/clients.md.")
    options = given(parser)
    chosen = [name for name in CLIENTS if any(part in name for part in options.only)]
    there = install(chosen)
    scripts = [name for name in CLIENTS if name in there]
    failed = []
    with _service(options.url) as url:
        for script in scripts:
            found = _tried(script, url)
            failed += [
                f"{script}: {each.what}" for each in found if each.failure and not each.because
            ]
            if options.write:
                write({script: found})
    assert not failed


@contextmanager
def _service(url: str | None) -> Iterator[str]:
    """The service at an address, or one that is started for the clients."""
    if url is not None:
        yield service_address(url)
        return
    config = load_settings(_CONFIG).model_dump(mode="json", exclude_unset=True)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder), config) as server:
        yield server.url


def _tried(script: str, url: str) -> list[Trial]:
    found = []
    for trial in trials(script, url):
        found.append(trial)
        reason = f" ({trial.because})" if trial.because else ""
        print(f"{script}: {trial.what}: {trial.failure or 'works'}{reason}", flush=True)
    return found
