"""Any OpenAI-compatible server: chat or completions with usage in the stream, and embeddings."""

from collections.abc import Iterable
from typing import Any

from loadtests.load.plan import Call
from loadtests.protocol.answer import Answer, MalformedAnswer, error_of, objects, parse
from loadtests.protocol.api import Request, embedding_request, generation_body
from loadtests.protocol.sse import Line

# Room for a label of several tokens; a constrained decoder ends with the label.
_LABEL_TOKENS = 16


class OpenAI:
    """`chat` chooses /v1/chat/completions over /v1/completions.

    A batch to classify becomes one completion request with a prompt for each text and the answer
    constrained to the labels (vLLM's `structured_outputs`): the work a peer without a
    classification route has to do for the same answer.
    """

    def __init__(self, *, chat: bool) -> None:
        self.chat = chat

    def request(self, call: Call) -> Request:
        if call.task == "embed":
            return embedding_request(call)
        if call.task == "classify":
            return Request("/v1/completions", classify_body(call), stream=False)
        body = generation_body(call, chat=self.chat)
        if body["stream"]:
            body.setdefault("stream_options", {"include_usage": True})
        path = "/v1/chat/completions" if self.chat else "/v1/completions"
        return Request(path, body, stream=body["stream"])

    def read_stream(self, lines: Iterable[Line]) -> Answer:
        answer = Answer()
        text: list[str] = []
        totals: list[int] = []
        for at, tree in objects(lines, answer):
            usage = tree.get("usage")
            content = _content(tree, answer)
            if content:
                answer.chunks.append(at)
                text.append(content)
                if usage:
                    totals.append(usage.get("completion_tokens", 0))
            if usage:
                answer.count(usage)
        answer.text = "".join(text)
        if totals and len(totals) == len(answer.chunks):
            previous = [0, *totals[:-1]]
            answer.chunk_tokens = [
                now - before for now, before in zip(totals, previous, strict=True)
            ]
        return answer

    def read_body(self, body: bytes) -> Answer:
        tree = parse(body)
        parts = tree.get("choices", tree.get("data"))
        if not isinstance(parts, list):
            raise MalformedAnswer(f"choices or data must be a list: {body[:80]!r}")
        answer = Answer(items=len(parts), done=True, error=error_of(tree))
        if tree.get("usage"):
            answer.count(tree["usage"])
        return answer


def _content(tree: dict[str, Any], answer: Answer) -> str:
    """The text of a chunk, with reasoning and tool calls; notes the finish reason."""
    choices = tree.get("choices")
    if not choices:
        return ""
    choice = choices[0]
    answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    delta = choice.get("delta")
    if delta is None:
        return str(choice.get("text") or "")
    for name in ("content", "reasoning_content", "reasoning"):
        if delta.get(name):
            return str(delta[name])
    calls = delta.get("tool_calls") or []
    return "".join(str((call.get("function") or {}).get("arguments") or "") for call in calls)


def classify_body(call: Call) -> dict[str, Any]:
    """A prompt for each text: the template of the workload's `extra`, else an instruction."""
    extra = dict(call.extra or {})
    default = f"{call.instruction} ({', '.join(call.labels)})\n{{input}}\nLabel: "
    template = str(extra.pop("template", default))
    body: dict[str, Any] = {
        "model": call.model,
        "prompt": [template.replace("{input}", text) for text in call.inputs],
        "max_tokens": _LABEL_TOKENS,
        "temperature": 0.0,
        "structured_outputs": {"choice": list(call.labels)},
    }
    return body | extra
