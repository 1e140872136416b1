"""Each fault of `tools.faults` once."""

from pathlib import Path

import pytest

from tools.faults import engine as faults
from tools.served.configuration import tiny_config
from tools.served.server import started_server


@pytest.mark.parametrize("fault", [faults.kill_the_engine, faults.terminate])
async def test_a_fault_that_ends_the_server_wrongs_no_client(
    tiny_folder: Path, tmp_path: Path, fault: faults.Fault
) -> None:
    with started_server(tmp_path, tiny_config(tiny_folder)) as server:
        await fault(server)


async def test_an_engine_that_stands_still_wrongs_no_client(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with started_server(tmp_path, tiny_config(tiny_folder)) as server:
        await faults.stop_the_engine(server)
        await faults.terminate(server)
