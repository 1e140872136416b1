"""The probability of being right, and abstention, on the real engine."""

import json

import pytest

from tests.engine.conftest import ADAPTERS
from tools.served.server import Server


def test_an_answer_of_commands_is_judged_and_withheld_as_asked(smollm2: Server) -> None:
    lines = (ADAPTERS / "commands" / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    example = json.loads(lines[0])
    body = {"model": "commands", "messages": example["messages"], "temperature": 0}
    answers = {}
    for least in (0.5, 1):
        answer = smollm2.post("/v1/generate", body | {"min_confidence": least})
        assert answer.status_code == 200, answer.text
        answers[least] = answer.json()
    (given,), (withheld,) = (answers[least]["outputs"] for least in (0.5, 1))
    assert json.loads(given["text"]) == example["expect"]
    assert given["finish_reason"] == "stop"
    assert 0.5 <= given["confidence"]["p_correct"] < 1
    assert (withheld["text"], withheld["finish_reason"]) == ("", "abstained")
    assert withheld["confidence"]["p_correct"] == pytest.approx(
        given["confidence"]["p_correct"], abs=0.02
    )
    assert answers[1]["usage"]["completion_tokens"] == answers[0.5]["usage"]["completion_tokens"]
