"""This service's own routes, as POST /v1/generate, /v1/classify, /v1/decisions, /v1/embeddings."""

from collections.abc import Iterable
from typing import Any

from loadtests.load.plan import Call
from loadtests.protocol.answer import Answer, MalformedAnswer, objects, parse
from loadtests.protocol.api import Request, embedding_request, generation_body
from loadtests.protocol.sse import Line


class Native:
    """Stream: `{id, index, text, finish_reason}` events, one with usage and timing, `[DONE]`."""

    def request(self, call: Call) -> Request:
        if call.task == "embed":
            return embedding_request(call)
        if call.questions:
            return Request("/v1/decisions", _decisions_body(call), stream=False)
        if call.task == "classify":
            return Request("/v1/classify", _classify_body(call), stream=False)
        body = generation_body(call, chat=call.chat)
        return Request("/v1/generate", body, stream=body["stream"])

    def read_stream(self, lines: Iterable[Line]) -> Answer:
        answer = Answer()
        text: list[str] = []
        for at, tree in objects(lines, answer):
            if tree.get("text"):
                answer.chunks.append(at)
                text.append(tree["text"])
            answer.finish_reason = tree.get("finish_reason") or answer.finish_reason
            _closing(tree, answer)
        answer.text = "".join(text)
        return answer

    def read_body(self, body: bytes) -> Answer:
        tree = parse(body)
        data = tree.get("data", tree.get("outputs", tree.get("answers")))
        if isinstance(data, dict):  # by the questions' names
            data = list(data.values())
        if not isinstance(data, list):
            raise MalformedAnswer(f"data, outputs or answers must be a list: {body[:80]!r}")
        answer = Answer(items=len(data), done=True)
        failed = [row for row in data if "error" in row]
        if failed:
            answer.error = f"{len(failed)} of {len(data)} inputs failed: {failed[0]['error']}"
        _closing(tree, answer)
        return answer


def _closing(tree: dict[str, Any], answer: Answer) -> None:
    if tree.get("usage"):
        answer.count(tree["usage"])
    queue_ms = (tree.get("timing") or {}).get("queue_ms")
    if queue_ms is not None:
        answer.queue_s = queue_ms / 1000


def _classify_body(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = {"model": call.model, "input": list(call.inputs)}
    if call.labels:
        body |= {"candidate_labels": list(call.labels)}
        # A template is all of the prompt: the service takes no instruction beside one.
        if "template" not in (call.extra or {}):
            body["instruction"] = call.instruction
    return body | (call.extra or {})


def questions(call: Call) -> list[str]:
    """What a call asks about its text, the same in every call of a workload."""
    return [f"{call.instruction} ({number})" for number in range(call.questions)]


def _decisions_body(call: Call) -> dict[str, Any]:
    choices = [{"value": label} for label in call.labels]
    asked = [
        {"type": "choice", "instructions": each, "choices": choices} for each in questions(call)
    ]
    body = {"model": call.model, "input": call.inputs[0], "questions": asked}
    return body | (call.extra or {})
