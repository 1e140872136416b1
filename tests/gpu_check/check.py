"""The steps of the check on one machine and model."""

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.analysis.duel import Duel
from loadtests.outputs import COMPARISON
from loadtests.peers import MODEL
from loadtests.random_adapters import write
from loadtests.report.duel_page import delta_table, rates
from service.settings.section import CUDA, installed
from tests.faults.engine import stop_the_engine, terminate
from tests.gpu_check.asked import (
    FIRST,
    OPENAI,
    bad_words_are_refused,
    first_requests,
    overload,
    throughput,
)
from tests.gpu_check.machine import chosen, memory_is_free, versions
from tests.gpu_check.steps import Findings, Step
from tests.served.server import Server, started_server

_RANK = 8
_COMPILED_SECONDS = 2.0
"""Seconds that a first request may take longer than a second: the kernels of top_k and top_p take
longer to compile, most others half a second at most."""
_CONTRACT = ("tests/engine/test_vllm.py", "tests/engine/test_classification.py")


@dataclass
class Check:
    """A model and the engine's arguments, and the server that the steps share once it runs.

    Results and logs go to `folder`. `adapters` are how many are served at once, in turn; `users`
    how many streams the benchmark has.
    """

    model: Path
    engine: dict[str, Any]
    folder: Path
    adapters: Sequence[int] = (1, 16, 64)
    users: int = 256
    _running: ExitStack = field(default_factory=ExitStack)
    _server: Server | None = None
    _pids: set[int] = field(default_factory=set)

    def steps(self) -> list[Step]:
        """All steps, the cheapest first."""
        start = 300 + installed().warm_up_s
        return [
            Step("versions", 60, versions),
            Step("configuration", 120, self.configuration),
            Step("start", start, self.start),
            Step("first requests", 180, self.first),
            Step("a request that ended the worker", 60, self.bad_words),
            Step("overload", 180, self.overload),
            Step("an engine that stands still", 300, self.stop),
            Step("SIGTERM under load", 180, self.terminate),
            Step("memory", 60, lambda: memory_is_free(self._pids)),
            Step("adapters", 2 * start, self.many_adapters),
            Step("contract of engines, exactness of classification", 900, self.contract),
            Step("streams beside vLLM's server", 2 * start + 300, self.bench),
        ]

    def end(self) -> None:
        """End the server, if it runs."""
        self._running.close()

    def configuration(self) -> Findings:
        """Have the service read its configuration without starting."""
        file = self._folder("configuration") / "config.json"
        file.write_text(json.dumps(self._config()), encoding="utf-8")
        _run(self.folder, "check", "service.cli.main", "serve", "--config", file, "--check")
        return {"engine": json.dumps(self.engine)}

    def start(self) -> Findings:
        """Start the server that the next steps ask."""
        server = started_server(self._folder("server"), self._config())
        self._server = self._running.enter_context(server)
        self._pids = {self._server.process.pid, *(each.pid for each in self._server.family())}
        return chosen(self._server.log)

    def first(self) -> Findings:
        """Time each kind of request."""
        return first_requests(
            self._asked(), FIRST | OPENAI, _COMPILED_SECONDS if installed() is CUDA else math.inf
        )

    def bad_words(self) -> Findings:
        """Ask for what once ended the worker; the engine's process must be the same after."""
        server = self._asked()
        engine = server.engine().pid
        found = bad_words_are_refused(server)
        assert server.engine().pid == engine
        return found

    def overload(self) -> Findings:
        """Ask for more at once than the engine can run."""
        return overload(self._asked(), 4 * self.users)

    def stop(self) -> Findings:
        """Stop the engine by a signal, and let it go on."""
        seconds = asyncio.run(stop_the_engine(self._asked()))
        return {"found stalled after": f"{seconds:.1f} s"}

    def terminate(self) -> Findings:
        """End the server under load."""
        seconds = asyncio.run(terminate(self._asked()))
        self.end()
        return {"ended after": f"{seconds:.1f} s, no answer cut"}

    def many_adapters(self) -> Findings:
        """Serve random adapters beside the base, and more than there are slots."""
        folder, most = self._folder("adapters"), max(self.adapters)
        names = [f"adapter-{number}" for number in range(most)]
        write(names, _RANK, self.model, folder)
        config = self._config(max_lora_rank=_RANK) | {
            "adapters": [{"source": str(folder / name)} for name in names],
            "adapter_cache": {"path": str(folder / "cache")},
        }
        found = {}
        with started_server(folder, config) as server:
            for count in (0, *self.adapters):
                rate = throughput(server, names[:count] or [server.model], most)
                found[f"{count} adapters"] = f"{rate:.0f} tokens/s"
        return found

    def contract(self) -> Findings:
        """Run the tests that hold for every engine, on the one-layer and the default model."""
        return {
            "pytest": _run(self.folder, "contract", "pytest", "-q", "-m", "not cpu", *_CONTRACT)
        }

    def bench(self) -> Findings:
        """Compare with vLLM's own server; both run at once, so each has half the memory."""
        engine = {"enforce_eager": False} | self.engine
        engine["gpu_memory_utilization"] = float(engine.get("gpu_memory_utilization", 0.9)) / 2
        options = [f"--engine={key}={json.dumps(value)}" for key, value in engine.items()]
        out = self.folder / "bench"
        _run(
            *(self.folder, "bench", "loadtests", "bench", "--scenario", "streams"),
            *("--folder", self.model, "--out", out, "--rounds", "1"),
            *("--set", f"load.users=[{self.users}]", "--set", "load.step_s=30", *options),
        )
        duel = Duel.model_validate_json((out / COMPARISON).read_text(encoding="utf-8"))
        _, rows = delta_table(duel)
        compared = {f"{name} {part}".strip(): ", ".join(rest) for name, part, *rest in rows}
        return {"rates": rates(duel)} | compared

    def _asked(self) -> Server:
        assert self._server is not None, "the server does not run"
        return self._server

    def _config(self, **engine: Any) -> dict[str, Any]:
        return {
            "model": {"name": MODEL, "path": str(self.model.resolve())},
            "engine": self.engine | engine,
        }

    def _folder(self, name: str) -> Path:
        folder = self.folder.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _run(folder: Path, name: str, module: str, *arguments: str | Path) -> str:
    """The last line of a program; AssertionError with the end of its log if it fails."""
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        finally:
            process.terminate()
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    assert code == 0, f"{module} ended with {code}:\n{text[-3000:]}"
    return text.splitlines()[-1] if text else ""
