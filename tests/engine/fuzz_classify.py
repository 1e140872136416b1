"""Random requests to /v1/classify on the one-layer model: never a 5xx, always a distribution.

    python -m tests.engine.fuzz_classify --requests 20000 --seed 1

Request n of a seed is always the same; a failure names both.
"""

import argparse
import asyncio
import json
import math
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.engine.server import Server, running_server
from tests.engine.tiny import build_tiny_model

AT_ONCE = 4
"""Each request has up to max_num_seqs (16) reads at the gate, which lets 64 wait."""

_PIECES = [
    *("a", "b", "good", "bad", "New", "York", "_", ",", '"', "'", "\\", "{", "}", "{input}", "%s"),
    *(" ", "\n", "\t", "\r\n", "\u00a0", "\u200b", "\u202e", "\x00", "\x1b[31m", "\ufffc"),
    *("é", "e\u0301", "中文", "ß", "😀", "👍🏽", "👩\u200d👧", "\U0010ffff", "\u0627", "Label:"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "<s>", "</s>", "[MASK]", "<end>"),
]
_ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**63, 2**70, 0.5, -0.0, 1e308, "", "1", "\ud800"),
    *([], {}, ["a"], [[]], {"a": 1}, ["a", "\ud800"], ["a", "a"], ["a", " "]),
]
# Not timeout_ms: a deadline that passes is an honest 504.
_FIELDS = [
    *("model", "input", "candidate_labels", "instruction", "multi_label", "calibrate"),
    *("top_k", "threshold", "template"),
]


class RequestFuzzer:
    """Bodies by number: two of three well formed, the others broken in one or two fields."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def body(self, number: int) -> dict[str, Any]:
        """Body `number` of this seed."""
        dice = random.Random(f"{self._seed}.{number}")
        body = self._well_formed(dice)
        if dice.random() < 1 / 3:
            for field in dice.sample(_FIELDS, dice.choice([1, 1, 2])):
                body[dice.choice([field, field, field, "unknown"])] = dice.choice(_ODD)
        return body

    def _well_formed(self, dice: random.Random) -> dict[str, Any]:
        count = dice.choice([1, 1, 1, 2, 5, 20])
        body: dict[str, Any] = {
            "model": "tiny",
            "input": [
                _text(dice, dice.choice([3, 3, 3, 3, 30, 30, 300, 3000])) for _ in range(count)
            ],
            "candidate_labels": self._labels(dice),
            "calibrate": dice.random() < 0.1,
        }
        if len(body["candidate_labels"]) >= 60:
            # Hundreds of labels for each of many inputs would be most of all reads.
            body["input"] = body["input"][:1]
        if dice.random() < 0.3:
            body["input"] = body["input"][0]
        if dice.random() < 0.2:
            ending = dice.choice(["\nLabel:", " is", "?", "\n", " ->", _text(dice, 3)])
            body["template"] = f"{_text(dice, 5)}{{input}}{ending}"
            return body
        if dice.random() < 0.3:
            body["instruction"] = _text(dice, dice.choice([3, 10, 200]))
        if dice.random() < 0.2:
            body["multi_label"] = True
        if dice.random() < 0.3:
            body["top_k"] = dice.choice([1, 2, 1000])
        if dice.random() < 0.3:
            body["threshold"] = dice.choice([0, 1, dice.random()])
        return body

    @staticmethod
    def _labels(dice: random.Random) -> list[str]:
        count = dice.choice([2, 2, 2, 3, 5, 12, 12, 60, 256, 257])
        if count < 60:
            return [f"{dice.choice(_PIECES[:6])}{_text(dice, 3)}{n}" for n in range(count)]
        return [f"{dice.choice(_PIECES[:6])} {n}" for n in range(count)]


def _text(dice: random.Random, longest: int) -> str:
    return "".join(dice.choice(_PIECES) for _ in range(dice.randint(0, longest)))


def check(response: httpx.Response, body: dict[str, Any]) -> str:
    """What came of a request; AssertionError for what must never come."""
    if response.status_code != 200:
        assert response.status_code in (400, 404), response.text[:500]
        error = response.json()["error"]
        assert error["message"]
        return str(error["code"])
    lines = response.headers["content-type"] == "application/x-ndjson"
    items = (
        [json.loads(line) for line in response.text.splitlines()][:-1]
        if lines
        else response.json()["data"]
    )
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    assert sorted(item["index"] for item in items) == list(range(len(inputs)))
    for item in items:
        if "error" in item:
            assert item["error"]["type"] == "invalid_request_error", item
        else:
            _check_item(item, body)
    return "ok"


def _check_item(item: dict[str, Any], body: dict[str, Any]) -> None:
    probs = item["probs"]
    assert len(probs) == item["num_classes"] == len(body["candidate_labels"])
    assert all(math.isfinite(prob) and 0 <= prob <= 1 + 1e-9 for prob in probs), item
    if not body.get("multi_label"):
        assert math.isclose(sum(probs), 1, abs_tol=1e-6), item
    scores = [score["score"] for score in item["scores"]]
    assert scores == sorted(probs, reverse=True)[: body.get("top_k")]
    assert item["abstained"] == (item["label"] is None)


async def fuzz(server: Server, requests: int, seed: int) -> Counter[str]:
    """Send them, check every answer, count what came of them."""
    fuzzer = RequestFuzzer(seed)
    outcomes: Counter[str] = Counter()
    numbers = iter(range(requests))

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            body = fuzzer.body(number)
            headers = {"content-type": "application/json"}
            if number % 5 == 0:
                headers["accept"] = "application/x-ndjson"
            # Lone surrogates and all: what a client can send, not what it should.
            response = await client.post("/v1/classify", content=json.dumps(body), headers=headers)
            try:
                outcomes[check(response, body)] += 1
            except AssertionError as failure:
                failure.add_note(f"request {number} of seed {seed}")
                raise

    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work(client))
    return outcomes


def main() -> None:
    """Parse the command line, start the one-layer model, fuzz it, print the outcomes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--model", type=Path, default=Path(".cache/models/smollm2-135m-instruct"), help="tokenizer"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        build_tiny_model(options.model, model)
        config = {
            "model": {"name": "tiny", "path": str(model)},
            "engine": {
                "dtype": "float32",
                "max_model_len": 2048,
                "max_num_seqs": 16,
                "gpu_memory_utilization": 0.2,
                "enforce_eager": True,
            },
            "gate": {"max_queued": 64},
        }
        with running_server(Path(folder), config) as server:
            outcomes = asyncio.run(fuzz(server, options.requests, options.seed))
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")  # noqa: T201 - the script's answer


if __name__ == "__main__":
    main()
