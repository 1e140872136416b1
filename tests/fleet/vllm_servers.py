"""Servers of vLLM's own that can be killed and started again at the same address."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from loadtests.peers import Model, Server, theirs
from loadtests.processes import free_port
from tests.fleet.routers import MODEL
from tests.served.configuration import ENGINE

ALLOWS_LOADING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Variable of vLLM's own server that opens its routes for adapters."""

SERVED = ENGINE | {
    "dtype": "float32",
    "max_num_seqs": 8,
    "max_model_len": 2048,
    "gpu_memory_utilization": 0.05,
    "scheduling_policy": "priority",
    "enable_prompt_tokens_details": True,
    "enable_lora": True,
    "max_loras": 2,
    "max_cpu_loras": 8,
    "max_lora_rank": 8,
}


class VllmServer:
    """One server of the one-layer model."""

    def __init__(self, folder: Path) -> None:
        self._model = Model(MODEL, folder, SERVED)
        self._port = free_port()
        self._stack = ExitStack()
        self.server: Server | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        begun = theirs(self._model.folder, model=self._model, port=self._port)
        self.server = self._stack.enter_context(begun)

    def kill(self) -> None:
        """End its processes at once, as a machine that loses power."""
        assert self.server is not None
        process = psutil.Process(self.server.process.pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.stop()

    def stop(self) -> None:
        """End it, if it runs."""
        self.server = None
        self._stack.close()

    def models(self) -> set[str]:
        """The names of the model and the adapters that it lists."""
        return {each["id"] for each in httpx.get(f"{self.url}/v1/models").json()["data"]}

    def running(self) -> float:
        """The requests in its engine."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        found = [each for each in lines if each.startswith("vllm:num_requests_running{")]
        return sum(float(each.rsplit(" ", 1)[1]) for each in found)


@contextmanager
def vllm_servers(folder: Path, number: int) -> Iterator[list[VllmServer]]:
    """So many servers that run; none of them runs after the block."""
    with ExitStack() as stack:
        made = [VllmServer(folder) for _ in range(number)]
        for each in made:
            stack.callback(each.stop)
            each.start()
        yield made
