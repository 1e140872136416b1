"""Four adapters mixed against the base alone, on one machine in one run.

    python -m loadtests.adapters_parity --streams 32 --rounds 5

Three servers run at once and take turns: the base without adapters, four random rank-8 adapters on
all projections with `cpu.grouped_adapters` on, and the same with it off. Each round's figures are
compared with the base's in that round, and the medians are printed as Markdown.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtests.parity import ENGINE, MODEL, Server, free_port, running
from service.adapters.base_model import read_base_model
from service.adapters.pack import pack

ADAPTERS = ("first", "second", "third", "fourth")
RANK = 8
STORY = "Write a long story about a lighthouse keeper and the sea, part {}."
REVIEW = (
    "Review {}: the plot is thin and the songs are forgettable, yet the two leads are so good "
    "together that I left the cinema smiling.\nSentiment:"
)


@dataclass(frozen=True)
class Round:
    """What one server did: generated tokens per second, one-token reads per second."""

    tokens: float
    reads: float


@dataclass(frozen=True)
class Subject:
    """A server, and the models that its requests take in turn."""

    server: Server
    models: tuple[str, ...]


def make_adapters(model: Path, folder: Path) -> list[Path]:
    """Write random adapters with manifests and return their folders."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    tuned = get_peft_model(weights, config, adapter_name=ADAPTERS[0])
    for name in ADAPTERS[1:]:
        tuned.add_adapter(name, config)
    tuned.save_pretrained(folder)
    base = read_base_model(model, name=MODEL, max_rank=RANK)
    for name in ADAPTERS:
        # Random weights may say anything.
        golden = {"prompt": "Hello", "pattern": "(?s).*"}
        (folder / name / "golden.jsonl").write_text(json.dumps(golden) + "\n")
        draft = {
            "name": name,
            "version": "1.0.0",
            "task": "generation",
            "golden": {"file": "golden.jsonl", "match": "regex", "max_tokens": 1},
        }
        pack(folder / name, base, draft)
    return [folder / name for name in ADAPTERS]


@contextmanager
def serving(model: Path, adapters: list[Path], *, grouped: bool = True) -> Iterator[Subject]:
    """This service, with adapters or without."""
    port, ops = free_port(), free_port()
    lora = {"max_loras": len(adapters), "max_lora_rank": RANK} if adapters else {}
    config: dict[str, Any] = {
        "model": {"name": MODEL, "path": str(model.resolve())},
        "engine": ENGINE | lora,
        "adapters": [{"source": str(folder)} for folder in adapters],
        "adapter_cache": {"path": str(adapters[0].parent / "cache") if adapters else "unused"},
        "cpu": {"grouped_adapters": grouped},
        "http": {"port": port, "ops_port": ops},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "service.cli", "serve", "--config", file.name]
        ready = f"http://127.0.0.1:{ops}/readyz"
        with running(command, f"http://127.0.0.1:{port}", ready) as server:
            yield Subject(server, tuple(folder.name for folder in adapters) or (MODEL,))


async def run_round(subject: Subject, streams: int, tokens: int, reads: int, serial: int) -> Round:
    """`streams` requests of `tokens` tokens at once, then `reads` one-token reads, as many at once.

    No two prompts of a round are the same, and none is as long as a block of the prefix cache.
    """
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=subject.server.url, timeout=600, limits=limits) as client:
        long = {"max_tokens": tokens, "ignore_eos": True}
        generated = await _rate(client, subject.models, STORY, streams, serial, long)
        short = {"max_tokens": 1, "logprobs": 5}
        read = await _rate(client, subject.models, REVIEW, reads, serial, short)
    return Round(generated * tokens, read)


async def _rate(
    client: httpx.AsyncClient,
    models: tuple[str, ...],
    prompt: str,
    count: int,
    serial: int,
    fields: dict[str, Any],
) -> float:
    """Requests per second; the client's pool bounds how many run at once."""

    async def ask(index: int) -> None:
        body = {
            "model": models[index % len(models)],
            "prompt": prompt.format(f"{serial}.{index}"),
            "temperature": 0,
            **fields,
        }
        (await client.post("/v1/completions", json=body)).raise_for_status()

    started = time.perf_counter()
    await asyncio.gather(*(ask(index) for index in range(count)))
    return count / (time.perf_counter() - started)


async def compare(model: Path, streams: int, tokens: int, reads: int, rounds: int) -> None:
    """Start the three, warm them up, take turns, print the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        adapters = make_adapters(model, folder)
        subjects = {
            "base": stack.enter_context(serving(model, [])),
            "grouped": stack.enter_context(serving(model, adapters)),
            "vLLM's": stack.enter_context(serving(model, adapters, grouped=False)),
        }
        for subject in subjects.values():
            await run_round(subject, streams, 8, streams, serial=-1)
        results: list[dict[str, Round]] = []
        for serial in range(rounds):
            turns = list(subjects) if serial % 2 == 0 else list(reversed(subjects))
            results.append(
                {
                    name: await run_round(subjects[name], streams, tokens, reads, serial)
                    for name in turns
                }
            )
            print(f"round {serial + 1}/{rounds}: {results[-1]}", file=sys.stderr, flush=True)
    _report(results, streams, tokens)


def _report(results: list[dict[str, Round]], streams: int, tokens: int) -> None:
    def median(name: str, figure: str) -> float:
        return float(statistics.median(getattr(result[name], figure) for result in results))

    def ratio(name: str, figure: str) -> float:
        ratios = [
            getattr(result[name], figure) / getattr(result["base"], figure) for result in results
        ]
        return float(statistics.median(ratios))

    lines = [
        f"{streams} at a time, {tokens} tokens each, {len(results)} rounds in turn, medians",
        "",
        "| | base alone | 4 adapters, grouped | ratio | 4 adapters, vLLM's operators | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, figure in (("generation, tokens/s", "tokens"), ("one-token reads/s", "reads")):
        cells = [f"{median('base', figure):.3g}"]
        for name in ("grouped", "vLLM's"):
            cells += [f"{median(name, figure):.3g}", f"{ratio(name, figure):.2f}"]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    print("\n".join(lines))


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=Path(".cache/models/smollm2-135m-instruct"), help="folder"
    )
    parser.add_argument("--streams", type=int, default=32, help="requests at once")
    parser.add_argument("--tokens", type=int, default=64, help="tokens per generation")
    parser.add_argument("--reads", type=int, default=128, help="one-token reads per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per server")
    options = parser.parse_args()
    asyncio.run(
        compare(options.model, options.streams, options.tokens, options.reads, options.rounds)
    )


if __name__ == "__main__":
    main()
