"""Four adapters mixed against the base alone, on one machine in one run.

    python -m loadtests.adapters_parity --streams 32 --rounds 5

Three servers run at once and take turns: the base without adapters, four random rank-8 adapters on
all projections with `cpu.grouped_adapters` on, and the same with it off. Each round's figures are
compared with the base's in that round, and the medians are printed as Markdown.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from loadtests.peers import MODEL, MODEL_FOLDER, Server, ours
from loadtests.report.markdown import table
from loadtests.turns import median, median_ratio, take_turns
from service.adapters.pack import pack
from service.model.base_model import read_base_model

ADAPTERS = ("first", "second", "third", "fourth")
RANK = 8
STORY = "Write a long story about a lighthouse keeper and the sea, part {}."
REVIEW = (
    "Review {}: the plot is thin and the songs are forgettable, yet the two leads are so good "
    "together that I left the cinema smiling.\nSentiment:"
)


@dataclass(frozen=True)
class Round:
    """Speed of one server: generated tokens per second, one-token reads per second."""

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
        # Random weights may say anything: there is nothing to prove.
        pack(folder / name, base, {"name": name, "version": "1.0.0", "task": "generation"})
    return [folder / name for name in ADAPTERS]


@contextmanager
def serving(model: Path, adapters: list[Path], *, grouped: bool = True) -> Iterator[Subject]:
    """This service, with adapters or without."""
    sections: dict[str, Any] = {"cpu": {"grouped_adapters": grouped}}
    if adapters:
        sections |= {
            "engine": {"max_loras": len(adapters), "max_lora_rank": RANK},
            "adapters": [{"source": str(folder)} for folder in adapters],
            "adapter_cache": {"path": str(adapters[0].parent / "cache")},
        }
    with ours(model, **sections) as server:
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

        async def one(subject: Subject, serial: int) -> Round:
            return await run_round(subject, streams, tokens, reads, serial)

        ways = {name: partial(one, subject) for name, subject in subjects.items()}
        results = await take_turns(ways, rounds)
    _report(results, streams, tokens)


def _report(results: dict[str, list[Round]], streams: int, tokens: int) -> None:
    base = results["base"]
    rows = []
    for label, figure in (("generation, tokens/s", _tokens), ("one-token reads/s", _reads)):
        cells = [f"{median(base, figure):.3g}"]
        for name in ("grouped", "vLLM's"):
            ratio = median_ratio(results[name], base, figure)
            cells += [f"{median(results[name], figure):.3g}", f"{ratio:.2f}"]
        rows.append((label, *cells))
    print(f"{streams} at a time, {tokens} tokens each, {len(base)} rounds in turn, medians\n")
    others = ("4 adapters, grouped", "ratio", "4 adapters, vLLM's operators", "ratio")
    print(table(("", "base alone", *others), rows))


def _tokens(found: Round) -> float:
    return found.tokens


def _reads(found: Round) -> float:
    return found.reads


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder")
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
