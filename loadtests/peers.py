"""This service, vLLM's own server and others as processes of this machine, with one model."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import yaml

from loadtests.environments import environment
from loadtests.processes import free_port, running, served, wait_until

MODEL = "smollm2-135m-instruct"
MODEL_FOLDER = Path(".cache/models") / MODEL
ENGINE = {
    "dtype": "auto",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "gpu_memory_utilization": 0.2,
    "enforce_eager": True,
}


@dataclass(frozen=True)
class Model:
    """A model that both servers serve: its name, default folder and arguments of its engine."""

    name: str
    folder: Path
    engine: Mapping[str, Any]
    encoder: bool = False


LANGUAGE_MODEL = Model(MODEL, MODEL_FOLDER, ENGINE)
ENCODER = Model(
    "all-minilm-l6-v2",
    Path(".cache/models/all-minilm-l6-v2"),
    {
        "dtype": "float32",
        "max_num_seqs": 32,
        "gpu_memory_utilization": 0.1,
        "enforce_eager": True,
    },
    encoder=True,
)

_INFINITY = Path(__file__).with_name("infinity.txt")
_LLAMA_CPP = Path(__file__).with_name("llama_cpp.txt")
_START_SECONDS = 300
_ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    metrics_url: str
    process: subprocess.Popen[bytes]

    def api_seconds(self) -> float:
        """CPU time of the API process alone since its start."""
        return float(sum(psutil.Process(self.process.pid).cpu_times()[:2]))

    def api_process(self, since: float) -> str:
        """Resident memory of the API process alone, and its CPU time after `since`, as text."""
        memory = psutil.Process(self.process.pid).memory_info().rss / 1e6
        seconds = self.api_seconds() - since
        return f"API process: {memory:.0f} MB, {seconds:.1f} s of a core in these rounds"


@contextmanager
def only(servers: Sequence[Server], position: int) -> Iterator[None]:
    """Stop all processes of the others, which wake up many times a second, for the block."""
    others = {each.process.pid for each in servers} - {servers[position].process.pid}
    stopped = []
    try:
        for api in map(psutil.Process, others):
            for each in (api, *api.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    each.suspend()
                    stopped.append(each)
        yield
    finally:
        for each in reversed(stopped):
            with suppress(psutil.NoSuchProcess):
                each.resume()


@contextmanager
def ours(
    folder: Path,
    *,
    model: Model = LANGUAGE_MODEL,
    through: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    apart: bool = False,
    **sections: Any,
) -> Iterator[Server]:
    """This service; `sections` are added to its configuration, those of `engine` merged.

    `through` is a module, with arguments, that starts the server's module. `variables` are set in
    its environment. With `apart` it is a session of its own, which the scheduler of Linux treats as
    another program (sched(7), autogroup).
    """
    port, ops = free_port(), free_port()
    engine = {**model.engine, **sections.pop("engine", {})}
    named = {"name": model.name, "path": str(folder.resolve())}
    served: dict[str, Any] = {"model": named, "engine": engine}
    if model.encoder:
        served = {"encoders": [named | {"engine": engine}]}
    config = sections | served | {"http": {"port": port, "ops_port": ops}}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        command = [sys.executable, "-m", *through, "service.cli.main", "serve"]
        command += ["--config", file.name]
        operations = f"http://127.0.0.1:{ops}"
        ready, metrics = f"{operations}/readyz", f"{operations}/metrics"
        own = variables or {}
        with _running(command, port, ready, metrics, engine, own, apart=apart) as server:
            with urllib.request.urlopen(f"{ready}?verbose", timeout=_ANSWER_SECONDS) as answer:
                # How it reaches vLLM decides what it costs.
                print(*answer.read().decode().splitlines()[1:], sep="; ", file=sys.stderr)
            yield server


@contextmanager
def theirs(
    folder: Path,
    *,
    model: Model = LANGUAGE_MODEL,
    through: Sequence[str] = (),
    engine: Mapping[str, Any] | None = None,
    port: int | None = None,
    variables: Mapping[str, str] | None = None,
    apart: bool = False,
) -> Iterator[Server]:
    """vLLM's own server, at `port` or any; the other arguments as for this service."""
    # By name, because the image of the load tests, which starts no server, has no service.
    number_type = import_module("service.vllm.arguments")
    port = port or free_port()
    engine = {**model.engine, **(engine or {})}
    # The same work for both: vLLM's own `auto` is the checkpoint's type on any processor.
    engine |= number_type.type_for_processor(engine)
    flags = [flag(key, value) for key, value in engine.items()]
    command = [sys.executable, "-m", *through, "vllm.entrypoints.openai.api_server", *flags]
    command += [f"--model={folder}", f"--served-model-name={model.name}", f"--port={port}"]
    if model.encoder:
        command.append("--runner=pooling")
    command += ["--host=127.0.0.1", "--disable-uvicorn-access-log"]
    url = f"http://127.0.0.1:{port}"
    # A stranger's server has none of this service's additions, which its package registers.
    bare = {"VLLM_PLUGINS": "", **(variables or {})}
    ready, metrics = f"{url}/health", f"{url}/metrics"
    with _running(command, port, ready, metrics, engine, bare, apart=apart) as server:
        yield server


@contextmanager
def infinity(folder: Path, *, model: Model = ENCODER) -> Iterator[Server]:
    """Infinity, a server of encoders, with our build of torch.

    Its version 0.0.78 opens no local ONNX model with the optimum of its own dependencies.
    """
    port = free_port()
    programs = environment(_INFINITY, lent=("torch",))
    command = [str(programs / "infinity_emb"), "v2", f"--model-id={folder}"]
    command += [f"--served-model-name={model.name}", "--engine=torch", "--device=cpu"]
    command += [f"--dtype={model.engine['dtype']}", f"--batch-size={model.engine['max_num_seqs']}"]
    command += ["--host=127.0.0.1", f"--port={port}", "--url-prefix=/v1", "--log-level=error"]
    url = f"http://127.0.0.1:{port}"
    private = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    with _running(command, port, f"{url}/health", f"{url}/metrics", {}, private) as server:
        yield server


@contextmanager
def llama_cpp(
    *, model: Model = LANGUAGE_MODEL, engine: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """llama.cpp's server on the file of four-bit weights that the default model is made from.

    Its wheel is built for AVX2, without AVX-512.
    """
    port = free_port()
    program = Path(__file__).with_name("llama_server.py")
    command = [str(environment(_LLAMA_CPP) / "python"), str(program), f"--port={port}"]
    command += [f"--name={model.name}", f"--threads={len(os.sched_getaffinity(0))}"]
    engine = {**model.engine, **(engine or {})}
    command += [f"--slots={engine['max_num_seqs']}", f"--context={engine['max_model_len']}"]
    url = f"http://127.0.0.1:{port}"
    with _running(command, port, f"{url}/health", f"{url}/metrics", {}, {}) as server:
        yield server


def engine_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Arguments of the engine from words such as `max_num_seqs=256`; ValueError for another form.

    Values are read as YAML.
    """
    arguments: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise ValueError(f"--engine: expected KEY=VALUE, got {each!r}")
        arguments[key.replace("-", "_")] = yaml.safe_load(value)
    return arguments


def flag(key: str, value: Any) -> str:
    """An engine argument as a word of vLLM's command line."""
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


@contextmanager
def _running(
    command: list[str],
    port: int,
    ready: str,
    metrics_url: str,
    engine: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    apart: bool = False,
) -> Iterator[Server]:
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    environment = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        **variables,
    }
    if engine.get("enforce_eager"):
        environment["TORCHDYNAMO_DISABLE"] = "1"
    with tempfile.NamedTemporaryFile() as file:
        log = Path(file.name)
        with running(command, log, env=environment, start_new_session=apart) as process:
            wait_until(lambda: served(ready, process, log), _START_SECONDS, ready, every=0.5)
            yield Server(f"http://127.0.0.1:{port}", metrics_url, process)
