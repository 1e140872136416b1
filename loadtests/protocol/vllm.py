"""Classification by vLLM's own routes: one read of each text, without a constrained decoder."""

from typing import Any

from loadtests.load.plan import Call
from loadtests.protocol.answer import Answer
from loadtests.protocol.api import Request
from loadtests.protocol.native import Native, questions
from loadtests.protocol.openai import OpenAI, classify_body


class Logprobs(OpenAI):
    """Completions of one token with its log-probabilities."""

    def request(self, call: Call) -> Request:
        if call.task != "classify":
            return super().request(call)
        body = classify_body(call)
        del body["structured_outputs"]
        body |= {"max_tokens": 1, "logprobs": 5, "add_special_tokens": False}
        return Request("/v1/completions", body, stream=False)


class Scoring(OpenAI):
    """POST /generative_scoring; a workload's `extra` holds `template` and `label_token_ids`."""

    def request(self, call: Call) -> Request:
        if call.task != "classify":
            return super().request(call)
        extra = dict(call.extra or {})
        head, _, tail = str(extra.pop("template", "{input}")).partition("{input}")
        body: dict[str, Any] = {
            "model": call.model,
            "query": head,
            "items": [text + tail for text in call.inputs],
            "add_special_tokens": False,
        }
        return Request("/generative_scoring", body | extra, stream=False)

    def read_body(self, body: bytes) -> Answer:
        return Native().read_body(body)


class Pooling(OpenAI):
    """POST /classify, which asks the trained head of an encoder."""

    def request(self, call: Call) -> Request:
        if call.task != "classify":
            return super().request(call)
        body = {"model": call.model, "input": list(call.inputs)} | (call.extra or {})
        return Request("/classify", body, stream=False)


class SystemOne(Native):
    """POST /v1/systemone, which vLLM and this service have."""

    def request(self, call: Call) -> Request:
        if not call.questions:
            return super().request(call)
        criteria = dict.fromkeys(call.labels)
        asked = {
            str(number): {"type": "choice", "instructions": each, "criteria": criteria}
            for number, each in enumerate(questions(call))
        }
        body = {"model": call.model, "state": call.inputs[0], "questions": asked}
        return Request("/v1/systemone", body | (call.extra or {}), stream=False)
