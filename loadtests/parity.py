"""This service beside `vllm serve` on the same model, arguments and requests, in one run.

    python -m loadtests.parity --streams 32 --rounds 5

Both servers run at once and take turns, so that the machine's noise meets both; each round's
figures are compared as a ratio (ours / vLLM's), and the medians are printed as Markdown.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

MODEL = "smollm2-135m-instruct"
ENGINE = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "gpu_memory_utilization": 0.2,
    "enforce_eager": True,
}
PROMPT = "Write a long story about a lighthouse keeper and the sea, part {}."


@dataclass(frozen=True)
class Round:
    """One round of streams: tokens per second over all, median time to the first token."""

    tokens_per_second: float
    ttft_p50: float


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    process: subprocess.Popen[bytes]

    def api_process_mb(self) -> float:
        """Resident memory of the API process alone, in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, ready: str) -> Iterator[Server]:
    """Start a server, wait until it is ready, end it."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    environment = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(process, ready)
            yield Server(url, process)
        finally:
            process.terminate()
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"a server ended with {process.returncode} before it was ready")
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise SystemExit("a server was not ready within 300 s")


@contextmanager
def ours(model: Path) -> Iterator[Server]:
    """This service."""
    port, ops = free_port(), free_port()
    config = {
        "model": {"name": MODEL, "path": str(model.resolve())},
        "engine": ENGINE,
        "http": {"port": port, "ops_port": ops},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "service.cli", "serve", "--config", file.name]
        with running(
            command, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops}/readyz"
        ) as server:
            yield server


@contextmanager
def theirs(model: Path) -> Iterator[Server]:
    """vLLM's own server."""
    port = free_port()
    flags = [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, value in ENGINE.items()
    ]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags]
    command += [f"--model={model}", f"--served-model-name={MODEL}", f"--port={port}"]
    command += ["--host=127.0.0.1", "--disable-uvicorn-access-log"]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, f"{url}/health") as server:
        yield server


async def stream_round(server: Server, streams: int, tokens: int, serial: int) -> Round:
    """Run `streams` chat completions at once, each of exactly `tokens` tokens."""
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        started = time.perf_counter()
        firsts = await asyncio.gather(
            *(_one_stream(client, tokens, f"{serial}.{index}") for index in range(streams))
        )
        seconds = time.perf_counter() - started
    return Round(streams * tokens / seconds, statistics.median(firsts))


async def _one_stream(client: httpx.AsyncClient, tokens: int, part: str) -> float:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPT.format(part)}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    started = time.perf_counter()
    first = None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for chunk in response.aiter_raw():
            if first is None and b'"content":"' in chunk:
                first = time.perf_counter() - started
    assert first is not None, "a stream brought no token"
    return first


async def compare(model: Path, streams: int, tokens: int, rounds: int) -> None:
    """Start both, warm both up, take turns, print the figures."""
    with ours(model) as mine, theirs(model) as peer:
        for server in (mine, peer):
            await stream_round(server, streams, 16, serial=-1)
        pairs = []
        for serial in range(rounds):
            order = [mine, peer] if serial % 2 == 0 else [peer, mine]
            results = {s.url: await stream_round(s, streams, tokens, serial) for s in order}
            pairs.append((results[mine.url], results[peer.url]))
            print(f"round {serial + 1}/{rounds}: {pairs[-1]}", file=sys.stderr, flush=True)
        memory = (mine.api_process_mb(), peer.api_process_mb())
    _report(pairs, memory, streams, tokens)


def _report(
    pairs: list[tuple[Round, Round]], memory: tuple[float, float], streams: int, tokens: int
) -> None:
    print(f"{streams} streams of {tokens} tokens, {len(pairs)} rounds in turn, medians\n")
    print("| | this service | vllm serve | ratio |\n| --- | --- | --- | --- |")
    for name, pick in (
        ("tokens/s", lambda r: r.tokens_per_second),
        ("TTFT p50, s", lambda r: r.ttft_p50),
    ):
        mine = statistics.median(pick(pair[0]) for pair in pairs)
        peer = statistics.median(pick(pair[1]) for pair in pairs)
        ratio = statistics.median(pick(pair[0]) / pick(pair[1]) for pair in pairs)
        print(f"| {name} | {mine:.3g} | {peer:.3g} | {ratio:.3f} |")
    print(f"| API process, MB | {memory[0]:.0f} | {memory[1]:.0f} | {memory[0] - memory[1]:+.0f} |")


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=Path(".cache/models/smollm2-135m-instruct"), help="folder"
    )
    parser.add_argument("--streams", type=int, default=32, help="streams at once")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per stream")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per server")
    options = parser.parse_args()
    asyncio.run(compare(options.model, options.streams, options.tokens, options.rounds))


if __name__ == "__main__":
    main()
