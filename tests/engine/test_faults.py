"""Each fault of `make test-faults` once."""

from pathlib import Path

import pytest

from tests.faults import engine as faults
from tests.served.configuration import tiny_config
from tests.served.server import started_server


async def test_an_engine_that_is_killed_wrongs_no_client(tiny_folder: Path, tmp_path: Path) -> None:
    with started_server(tmp_path, tiny_config(tiny_folder)) as server:
        await faults.kill_the_engine(server)


@pytest.mark.slow
async def test_an_engine_that_stands_still_and_a_sigterm_wrong_no_client(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with started_server(tmp_path, tiny_config(tiny_folder)) as server:
        await faults.stop_the_engine(server)
        await faults.terminate(server)
