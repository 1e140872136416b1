"""The limit on open files, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
from service.http.server import allow_connections
logging.basicConfig(stream=sys.stdout, format="%(message)s")
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_connections(connections)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "said"),
    [
        (256, 8192, 4096, ["4608 8192"]),
        (6000, 8192, 4096, ["6000 8192"]),
        (
            256,
            1024,
            4096,
            [
                "http.max_connections: 4096 connections need 4608 open files, and the hard limit "
                "is 1024 (ulimit -Hn)",
                "1024 1024",
            ],
        ),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_connections_need(
    soft: int, hard: int, connections: int, said: list[str]
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == said
