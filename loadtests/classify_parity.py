"""Classification here beside what `vllm serve` offers for it, on the same prompts, in one run.

    python -m loadtests.classify_parity --inputs 128 --at-once 32 --rounds 3

Both servers run at once and the ways to classify take turns. CPU is that of the API process alone,
per input. `plain` ways are given the same prompts token for token, a text of one line and
"Sentiment:", and two labels of one token each; a structured choice needs a chat and is given that
as the user's turn. `chat` ways are given the whole prompt that this service writes for a chat
model.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from transformers import AutoTokenizer

from loadtests.peers import MODEL, MODEL_FOLDER, Server, ours, theirs
from loadtests.report.markdown import table
from loadtests.turns import median, median_ratio, take_turns

LABELS = ["positive", "negative"]
INSTRUCTION = "Classify the sentiment."
TEMPLATE = "Review:{input}\nSentiment:"
TEXT = (
    " The lighthouse keeper of part {} said that the new lamp was brighter, the boat late again "
    "and the soup his neighbour brought good."
)
LONG = " ".join(
    [INSTRUCTION]
    + [
        f"Rule {n}: a text that praises {what} is positive, one that complains of it is negative."
        for n, what in enumerate(
            "service,food,price,speed,noise,light,colour,smell,taste,size,comfort,safety,help,"
            "the weather".split(","),
            1,
        )
    ]
)
ROOMS = "kitchen,bathroom,living room,bedroom,garage,garden".split(",")
STATES = "light on,light off,door open,door closed,heating up,heating down,alarm".split(",")
MANY = [f"{room} {state}" for room in ROOMS for state in STATES]

LONG_FIELDS: dict[str, Any] = {"instruction": LONG, "calibrate": False}

Call = Callable[[httpx.AsyncClient, Sequence[str]], Awaitable[Any]]


@dataclass(frozen=True)
class Way:
    """One way to classify: a call for some inputs, and how many of them one call takes.

    `share` of a round's inputs are enough for a slow way.
    """

    name: str
    server: Server
    call: Call
    size: int = 1
    share: float = 1.0


@dataclass(frozen=True)
class Round:
    """Time that one way took for all inputs of a round."""

    inputs_per_second: float
    api_cpu_us: float


class Prompts:
    """The prompts of this service, written for its peers."""

    def __init__(self, model: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self.label_ids = [self._tokenizer.encode(f" {label}")[0] for label in LABELS]
        self.plain = TEMPLATE.split("{input}")
        head, tail = self.chat("\0").split("\0")
        self.framed = [head.removesuffix(" "), tail + "Label:"]

    def question(self, text: str) -> str:
        """Text of the user's turn."""
        return f"{INSTRUCTION}\nLabels: {', '.join(LABELS)}\nText: {text}\nLabel:"

    def plain_text(self, text: str) -> str:
        """The prompt of the template."""
        return text.join(self.plain)

    def chat(self, text: str) -> str:
        """The rendered conversation, up to the answer."""
        turn = [{"role": "user", "content": self.question(text)}]
        rendered: str = self._tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def tokens(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self._tokenizer.encode(text))


def classify(**fields: Any) -> Call:
    """A call of this service's route; a list of inputs, even of one."""

    async def call(client: httpx.AsyncClient, texts: Sequence[str]) -> Any:
        body = {"model": MODEL, "input": list(texts), "candidate_labels": LABELS}
        body |= {"instruction": INSTRUCTION} | fields
        if "template" in fields:
            del body["instruction"]
        return await _post(client, "/v1/classify", body)

    return call


def unshared(client: httpx.AsyncClient, texts: Sequence[str]) -> Awaitable[Any]:
    """The long instruction, made to differ from its first word."""
    part = texts[0].split()[5]
    return classify(**LONG_FIELDS | {"instruction": f"Case {part}. {LONG}"})(client, texts)


def scoring(around: Sequence[str], label_ids: list[int]) -> Call:
    """vLLM's /generative_scoring."""

    async def call(client: httpx.AsyncClient, texts: Sequence[str]) -> Any:
        body = {
            "model": MODEL,
            "query": around[0],
            "items": [text + around[1] for text in texts],
            "label_token_ids": label_ids,
            "add_special_tokens": False,
        }
        return await _post(client, "/generative_scoring", body)

    return call


def choice(question: Callable[[str], str]) -> Call:
    """vLLM's chat completions, constrained to the labels."""

    async def call(client: httpx.AsyncClient, texts: Sequence[str]) -> Any:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": question(texts[0])}],
            "structured_outputs": {"choice": LABELS},
            "temperature": 0,
            "max_tokens": 8,
        }
        return await _post(client, "/v1/chat/completions", body)

    return call


def completion(around: Sequence[str]) -> Call:
    """vLLM's completions with the log-probabilities of the next token."""

    async def call(client: httpx.AsyncClient, texts: Sequence[str]) -> Any:
        body = {
            "model": MODEL,
            "prompt": [text.join(around) for text in texts],
            "add_special_tokens": False,
            "max_tokens": 1,
            "logprobs": 5,
            "temperature": 0,
        }
        return await _post(client, "/v1/completions", body)

    return call


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    response = await client.post(path, json=body)
    if response.status_code != 200:
        raise SystemExit(f"{path}: {response.status_code} {response.text[:300]}")
    return response.json()


async def measure(way: Way, texts: Sequence[str], at_once: int) -> Round:
    """Classify all texts, `at_once` of them at a time."""
    process = psutil.Process(way.server.process.pid)
    calls = (texts[start : start + way.size] for start in range(0, len(texts), way.size))
    async with httpx.AsyncClient(base_url=way.server.url, timeout=300) as client:

        async def work() -> None:
            for some in calls:
                await way.call(client, some)

        before, started = sum(process.cpu_times()[:2]), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, at_once // way.size)):
                group.create_task(work())
        seconds = time.perf_counter() - started
        used = sum(process.cpu_times()[:2]) - before
    return Round(len(texts) / seconds, used / len(texts) * 1e6)


async def compare(model: Path, inputs: int, at_once: int, rounds: int) -> None:
    """Start both, warm every way up, take turns, print the figures."""
    prompts = Prompts(model)
    with ours(model) as mine, theirs(model) as peer:
        plain = classify(template=TEMPLATE)
        many = classify(template=TEMPLATE, candidate_labels=MANY)
        ids = prompts.label_ids
        ways = [
            Way("plain: `/v1/classify`", mine, plain),
            Way("plain: vLLM `/generative_scoring`", peer, scoring(prompts.plain, ids)),
            Way("plain: vLLM chat, structured `choice`", peer, choice(prompts.plain_text)),
            Way("plain: vLLM completions, logprobs", peer, completion(prompts.plain)),
            Way(f"plain: `/v1/classify`, {at_once} a request", mine, plain, at_once),
            Way(
                f"plain: `/generative_scoring`, {at_once} a request",
                peer,
                scoring(prompts.plain, ids),
                at_once,
            ),
            Way(
                f"plain: completions, logprobs, {at_once} a request",
                peer,
                completion(prompts.plain),
                at_once,
            ),
            Way(f"plain: `/v1/classify`, {len(MANY)} labels", mine, many, share=0.25),
            Way("chat: `/v1/classify`", mine, classify()),
            Way("chat: vLLM `/generative_scoring`", peer, scoring(prompts.framed, ids)),
            Way("chat: vLLM chat, structured `choice`", peer, choice(prompts.question)),
            Way("chat, 300-token instruction, shared", mine, classify(**LONG_FIELDS), share=0.25),
            Way("chat, 300-token instruction, each its own", mine, unshared, share=0.25),
        ]
        for way in ways:
            await measure(way, [TEXT.format(f"w{n}") for n in range(8)], at_once)

        async def one(way: Way, serial: int) -> Round:
            texts = [TEXT.format(f"{serial}-{n}") for n in range(inputs)]
            return await measure(way, texts[: int(inputs * way.share)], at_once)

        results = await take_turns({way.name: partial(one, way) for way in ways}, rounds)
        facts = await _facts(prompts, mine)
    _report(results, facts)


async def _facts(prompts: Prompts, mine: Server) -> list[str]:
    text = TEXT.format("0-0")
    async with httpx.AsyncClient(base_url=mine.url, timeout=300) as client:
        plain, many, long = [
            (await classify(**fields)(client, [text]))["usage"]
            for fields in (
                {"template": TEMPLATE},
                {"template": TEMPLATE, "candidate_labels": MANY},
                LONG_FIELDS,
            )
        ]
    return [
        f"an input has {prompts.tokens(text)} tokens, its prompt {plain['prompt_tokens']}",
        f"{len(MANY)} labels: {many['prompt_tokens']} prompt tokens in all reads of one input, "
        f"{many['cached_tokens']} of them cached",
        f"the long instruction's prompt: {long['prompt_tokens']} tokens, {long['cached_tokens']} "
        "of them cached",
    ]


def _report(results: dict[str, list[Round]], facts: list[str]) -> None:
    print("\n".join(f"- {fact}" for fact in facts) + "\n")
    first = next(iter(results.values()))
    rows = [
        (
            name,
            f"{median(rounds, _speed):.1f}",
            f"{median_ratio(first, rounds, _speed):.2f}",
            f"{median(rounds, _cpu):.0f}",
            f"{median_ratio(first, rounds, _cpu):.2f}",
        )
        for name, rounds in results.items()
    ]
    beside = "first row's beside it"
    print(table(("way", "inputs/s", beside, "API CPU, us per input", beside), rows))


def _speed(found: Round) -> float:
    return found.inputs_per_second


def _cpu(found: Round) -> float:
    return found.api_cpu_us


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder")
    parser.add_argument("--inputs", type=int, default=128, help="inputs per round")
    parser.add_argument("--at-once", type=int, default=32, help="inputs at a time")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per way")
    options = parser.parse_args()
    asyncio.run(compare(options.model, options.inputs, options.at_once, options.rounds))


if __name__ == "__main__":
    main()
