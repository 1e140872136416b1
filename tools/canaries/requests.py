"""Requests of users who know the right answer, and say so of some of their answers."""

import base64
import json
import random
from dataclasses import dataclass
from typing import Any

import httpx

from tools.canaries.kinds import KINDS
from tools.canaries.plans import Planned

_COMMAND = {
    "type": "json_schema",
    "json_schema": {
        "type": "object",
        "properties": {"intent": {"type": "string"}},
        "required": ["intent"],
        # Otherwise the grammar ends an object behind its intent.
        "additionalProperties": True,
    },
}


@dataclass(frozen=True, slots=True)
class User:
    """Asks a release about a line, and rates a share of the answers."""

    client: httpx.Client
    feedback: float

    def ask(self, planned: Planned, line: dict[str, Any], dice: random.Random) -> str:
        """Ask, and perhaps rate; the version that answered, or `failed`."""
        classifies = KINDS[planned.kind].adapter == "sentiment"
        path, body = _classify(line) if classifies else _command(line)
        answer = self.client.post(path, json={"model": planned.name} | body)
        if answer.status_code != 200:
            return "failed"
        given = answer.headers["x-feedback-id"]
        rating = (
            {"label": line["label"]} if classifies else {"correct": _right(line, answer.json())}
        )
        if dice.random() >= self.feedback:
            rating = {}
        if rating:
            rated = self.client.post("/v1/feedback", json={"id": given} | rating)
            rated.raise_for_status()
        return version_of(given)


def _classify(line: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/classify", {"input": line["text"]}


def _command(line: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    body = {"messages": line["messages"], "max_tokens": 64, "temperature": 0}
    return "/v1/generate", body | {"response_format": _COMMAND}


def _right(line: dict[str, Any], answer: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(answer["outputs"][0]["text"]) == json.loads(line["completion"]))
    except ValueError:
        return False


def version_of(feedback_id: str) -> str:
    """The version that answered, which an id can be read for."""
    body = feedback_id.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))[1])
