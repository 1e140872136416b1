"""A batch of random chats, each of whose lines is answered or refused with a reason."""

import asyncio
import json
import random
from collections import Counter

import httpx

from tests.fuzz import generation

_EVERY_SECONDS = 0.5
_LONGEST_SECONDS = 1800.0


async def fuzz(url: str, lines: int, seed: int) -> Counter[str]:
    """Upload a file of so many chats, run it as a batch and count the outcomes of its lines.

    Raises AssertionError for a line without an answer, or with a status that must never happen.
    """
    async with httpx.AsyncClient(base_url=f"{url}/v1", timeout=60, trust_env=False) as client:
        sent = "\n".join(_line(seed, number) for number in range(lines)).encode()
        upload = await client.post(
            "/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", sent)}
        )
        assert upload.status_code == 200, upload.text
        asked = {
            **{"input_file_id": upload.json()["id"], "endpoint": generation.CHAT},
            "completion_window": "24h",
        }
        batch = (await client.post("/batches", json=asked)).raise_for_status().json()
        async with asyncio.timeout(_LONGEST_SECONDS):
            while batch["status"] not in ("completed", "failed"):
                await asyncio.sleep(_EVERY_SECONDS)
                shown = await client.get(f"/batches/{batch['id']}")
                batch = shown.raise_for_status().json()
        assert batch["status"] == "completed", batch
        outcomes: Counter[str] = Counter()
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                content = await client.get(f"/files/{batch[name]}/content")
                outcomes.update(map(_outcome, content.raise_for_status().text.splitlines()))
        assert outcomes.total() == lines, outcomes
        return outcomes


def _line(seed: int, number: int) -> str:
    dice = random.Random(f"{seed}.batch.{number}")
    body = generation.body(dice, generation.CHAT)
    body.pop("stream", None)
    made = {"custom_id": f"{number}", "method": "POST", "url": generation.CHAT, "body": body}
    # A file with half of a surrogate pair is refused as a whole.
    return json.dumps(made).replace("\\ud800", "?")


def _outcome(line: str) -> str:
    said = json.loads(line)
    response = said.get("response")
    if response is None:
        return f"batch: {said['error']['code']}"
    assert response["status_code"] in (200, 400, 404), line[:400]
    if response["status_code"] == 200:
        assert response["body"]["choices"]
        return "batch: ok"
    return f"batch: {response['body']['error']['code']}"
