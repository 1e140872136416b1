"""Requests of users who know the right answer, and say so of some of their answers."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.plugins.rollouts.answer_ids import AnswerIds, kept_key, replica_mark
from service.tenants.tenant import ANONYMOUS
from tests.canaries.kinds import KINDS
from tests.canaries.plans import Planned

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
    """Asks a release about a line, and rates a share of the answers; `releases` is their folder."""

    client: httpx.Client
    feedback: float
    releases: Path

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
        return version_of(given, self.releases)


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


def version_of(feedback_id: str, releases: Path) -> str:
    """The version that answered, which the key in the folder of the releases tells."""
    key = kept_key(releases)
    return AnswerIds(key, replica_mark(key)).read(feedback_id, ANONYMOUS.name).version
