"""The cost of a guard on the engine of the model that it guards.

    python -m tools.guard_cost [--guard prompt-safety] [--rounds 5] [--streams 24] [--at-once 4]

Serves deploy/local's base and one of its adapters, which guards the inputs of one tenant and the
answers of another, and asks for the same streams as each of them and as a third tenant without
a guard, in turns. Prints the time to the first text, and requests a second. Takes minutes.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.adapters.manifest import ClassificationManifest
from service.adapters.manifest_yaml import load_manifest
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.server import PATIENT, Server, running_server
from tools.command_line import command_line
from tools.keys import bearer, entry, write_keys

MODEL = "smollm2-135m-instruct"
ADAPTERS = Path("deploy/local/adapters").resolve()
POLICIES: dict[str, dict[str, Any]] = {
    "no-guard": {},
    "input-guard": {"input": ["any"]},
    "output-guard": {"output": ["any"]},
}
PROMPT = "Tell me of a walk in the city of {number}, of its streets, its rivers and its people."
TOKENS = 48


@dataclass(frozen=True)
class Pass:
    """Streams of one tenant, all of one round: seconds to each first text, and of all together."""

    first: list[float]
    seconds: float


def configuration(folder: Path, adapter: str) -> dict[str, Any]:
    """A service whose guard flags nothing, so that every answer is whole."""
    keys = write_keys(folder / "keys.json", *map(entry, POLICIES))
    manifest = load_manifest(ADAPTERS / adapter)
    assert isinstance(manifest, ClassificationManifest)
    labels = list(manifest.classification.labels)
    guard = {"model": adapter, "labels": labels[:1], "threshold": 1.0}
    return PATIENT | {
        "model": {"name": MODEL, "path": str(SMOLLM2.resolve())},
        "engine": ENGINE | {"max_lora_rank": 8},
        "adapters": [{"source": str(ADAPTERS / adapter)}],
        "tenants": {"keys": str(keys)},
        "guards": {"named": {"any": guard}, "tenants": {k: v for k, v in POLICIES.items() if v}},
    }


async def measure(server: Server, tenant: str, streams: int, at_once: int, seed: int) -> Pass:
    """Ask for streams as a tenant, so many at once; the prompts of a seed are its own."""
    slots = asyncio.Semaphore(at_once)
    headers = bearer(tenant)

    async def first_text(http: httpx.AsyncClient, number: int) -> float:
        prompt = PROMPT.format(number=f"{seed}-{number}")
        body = {"model": MODEL, "prompt": prompt, "max_tokens": TOKENS, "stream": True}
        async with slots:
            began, first = time.monotonic(), 0.0
            async with http.stream("POST", "/v1/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if not first and line.startswith("data: {") and _has_text(line):
                        first = time.monotonic() - began
        return first

    began = time.monotonic()
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=600) as http:
        times = await asyncio.gather(*(first_text(http, number) for number in range(streams)))
    return Pass(times, time.monotonic() - began)


def _has_text(line: str) -> bool:
    event = json.loads(line.removeprefix("data: "))
    return any(choice["text"] for choice in event.get("choices", ()))


def main() -> None:
    """Measure in turns and print a line for each policy."""
    parser = command_line("tools.guard_cost", __doc__)
    parser.add_argument("--guard", default="prompt-safety", help="An adapter of deploy/local.")
    parser.add_argument("--rounds", type=int, default=5, help="Turns of each policy.")
    parser.add_argument("--streams", type=int, default=24, help="Streams of a turn.")
    parser.add_argument("--at-once", type=int, default=4, help="Streams at a time.")
    asked = parser.parse_args()
    passes: dict[str, list[Pass]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        with running_server(Path(name), configuration(Path(name), asked.guard)) as server:
            for seed in range(asked.rounds):
                for tenant in POLICIES:
                    done = measure(server, tenant, asked.streams, asked.at_once, seed)
                    passes[tenant].append(asyncio.run(done))
                print(f"round {seed + 1} of {asked.rounds}", file=sys.stderr)
    for tenant, found in passes.items():
        first = sorted(each for one in found for each in one.first)
        rates = [asked.streams / one.seconds for one in found]
        print(
            f"{tenant:13} first text {statistics.median(first) * 1000:.0f} ms at the median, "
            f"{first[int(len(first) * 0.95)] * 1000:.0f} ms p95; "
            f"{statistics.median(rates):.2f} requests/s ({min(rates):.2f} to {max(rates):.2f})"
        )


if __name__ == "__main__":
    main()
