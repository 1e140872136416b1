"""Both servers on mock engines of their own."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.peers import ours, theirs
from tools.frontend.measure import Side
from tools.keys import entry, key_of, write_keys

_ENGINE = {"max_num_seqs": 1024}
_ADMISSION = {
    "max_queued": 4096,
    "max_wait_ms": 600_000,
    "default_timeout_ms": 600_000,
    "target_token_ms": 600_000,
}
"""Limits of admission at which a saturated server refuses nothing, however long answers take."""

_TENANT = "load"


@contextmanager
def servers(
    model: Path, clients: Sequence[str] = ("fast",), *, pinned: bool = True
) -> Iterator[list[Side]]:
    """This service by each of these clients of vLLM, then vLLM's server, all ready and idle.

    `pinned` gives the API processes the first core, and the others to all else, this process too.
    """
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    api, others = (cores[0], cores[1:]) if cores else (None, [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = write_keys(folder / "keys.json", entry(_TENANT))
        sections: dict[str, Any] = {
            "admission": _ADMISSION,
            "preparation": {"max_waiting": 4096},
            "tenants": {"keys": str(keys)},
        }
        with ExitStack() as running:
            found = []
            for client in clients:
                rate = _rate(folder, client)
                own = sections | {"engine": _ENGINE | {"client": client}}
                server = ours(model, through=_mock(rate, api, others), **own)
                side = Side(client, running.enter_context(server), rate, key_of(_TENANT))
                found.append(side)
            rate = _rate(folder, "theirs")
            server = theirs(model, through=_mock(rate, api, others), engine=_ENGINE)
            found.append(Side("vllm serve", running.enter_context(server), rate))
            if others:
                os.sched_setaffinity(0, others)
            yield found


def _rate(folder: Path, name: str) -> Path:
    """The file from which a mock engine reads its rate."""
    file = folder / f"{name}_rate"
    file.touch()
    return file


def rust_front_end() -> Path | None:
    """vLLM's front end in Rust, where the installed wheel has it."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).with_name("vllm-rs")
    return program if program.is_file() else None


def _mock(rate: Path, api: int | None, others: Sequence[int]) -> list[str]:
    """The start of a command that runs a server on the mock engine, both on their cores."""
    words = ["tools.mock_engine", f"--rate={rate}"]
    if api is not None:
        engine = ",".join(str(core) for core in others or [api])
        words += [f"--engine-cpus={engine}", f"--api-cpus={api}"]
    return words
