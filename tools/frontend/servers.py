"""Both servers on mock engines of their own."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.peers import ours, theirs
from tools.frontend.measure import Side
from tools.served.keys import entry, key_of, write_keys

_ENGINE = {"max_num_seqs": 1024}
_GATE = {
    "max_queued": 4096,
    "max_wait_ms": 600_000,
    "default_timeout_ms": 600_000,
    "target_token_ms": 600_000,
}
"""Limits of the gate at which a saturated server refuses nothing, however long answers take."""

_TENANT = "load"


@contextmanager
def servers(model: Path, *, pinned: bool = True) -> Iterator[tuple[Side, Side]]:
    """This service and vLLM's server, ready and idle.

    `pinned` gives the API processes the first core, and the others to all else, this process too.
    """
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    api, others = (cores[0], cores[1:]) if cores else (None, [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "our_rate", folder / "their_rate"
        for file in files:
            file.touch()
        keys = write_keys(folder / "keys.json", entry(_TENANT))
        mine, peer = [_mock(file, api, others) for file in files]
        sections: dict[str, Any] = {
            "engine": _ENGINE,
            "gate": _GATE,
            "preparation": {"max_waiting": 4096},
        }
        sections["tenants"] = {"keys": str(keys)}
        with (
            ours(model, through=mine, **sections) as first,
            theirs(model, through=peer, engine=_ENGINE) as second,
        ):
            if others:
                os.sched_setaffinity(0, others)
            yield (
                Side("this service", first, files[0], key_of(_TENANT)),
                Side("vllm serve", second, files[1]),
            )


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
