"""One row for each request: due and send instants, the answer and its instants."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from loadtests.load.plan import Call
from loadtests.load.workloads import Task
from loadtests.protocol.answer import Answer, MalformedAnswer, error_of, parse
from loadtests.protocol.api import Api
from loadtests.protocol.sse import Line

Outcome = Literal[
    "ok",  # the whole answer came
    "cancelled",  # the client hung up, as planned
    "refused",  # 429 or 503
    "deadline",  # 504
    "http_error",  # any other status but 200
    "stream_error",  # an error inside a stream of status 200, or a failed input
    "malformed",  # not what the API promises
    "truncated",  # ended, or closed midway, without [DONE]
    "reset",  # connection reset, or closed before any answer
    "timeout",  # nothing for the scenario's timeout
    "unreachable",  # no connection
    "unfinished",  # still running when the run's drain time was over
    "dropped",  # never sent: too many in flight at the client
]
Broken = Literal["truncated", "reset", "timeout", "unreachable", "unfinished", "dropped"]

_REFUSED = (429, 503)
_DEADLINE = 504


@dataclass(slots=True)
class Exchange:
    """Events of one HTTP request; times are seconds from its send, the send's from the start."""

    sent: float
    ended: float = 0.0
    status: int | None = None
    lines: list[Line] = field(default_factory=list)
    body: bytes = b""
    retry_after: str | None = None
    broken: Broken | None = None
    detail: str = ""
    hung_up: bool = False


@dataclass(slots=True)
class Record:
    """A request's measured row; all times in seconds.

    `due` and `sent` count from the start of the run, `chunks`, `first_event` and `e2e` from the
    send. `chunks` are the instants of the chunks with content, `retry_after` the header's text.
    """

    index: int
    turn: int
    stage: str
    workload: str
    tenant: str
    model: str
    task: Task
    worker: int
    due: float
    sent: float | None
    outcome: Outcome
    e2e: float | None = None
    status: int | None = None
    error: str | None = None
    chunks: list[float] = field(default_factory=list)
    chunk_tokens: list[int] | None = None
    first_event: float | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    items: int = 0
    queue_s: float | None = None
    retry_after: str | None = None

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def tokens(self) -> int:
        """Tokens of the answer: the server's count, or else one for each chunk."""
        return self.completion_tokens if self.completion_tokens is not None else len(self.chunks)

    def row(self) -> dict[str, Any]:
        """The record as JSON and msgpack know it, times to the microsecond."""
        row = {name: getattr(self, name) for name in _FIELDS}
        row["chunks"] = [round(at, 6) for at in self.chunks]
        for name in ("due", "sent", "e2e", "first_event"):
            row[name] = None if row[name] is None else round(row[name], 6)
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """The inverse of `row`; ignores fields of later versions."""
        return cls(**{name: row[name] for name in _FIELDS if name in row})


_FIELDS = tuple(item.name for item in fields(Record))
_ANSWERED = {each.name for each in fields(Answer)} & set(_FIELDS) - {"error"}


def unsent(call: Call, worker: int) -> Record:
    """The record of a call for which the client had no room."""
    return _record(call, worker, None, "dropped")


def record_of(call: Call, exchange: Exchange, api: Api, worker: int) -> tuple[Record, str]:
    """The record of an exchange, and the text of the answer."""
    try:
        answer = _answer(call, exchange, api)
        outcome, error = _outcome(exchange, answer)
    except MalformedAnswer as malformed:
        answer, outcome, error = Answer(), "malformed", str(malformed)
    record = _record(call, worker, exchange.sent, outcome)
    record.status = exchange.status
    record.error = error
    record.e2e = exchange.ended
    for name in _ANSWERED:
        setattr(record, name, getattr(answer, name))
    record.retry_after = exchange.retry_after
    return record, answer.text


def _record(call: Call, worker: int, sent: float | None, outcome: Outcome) -> Record:
    return Record(
        index=call.index,
        turn=call.turn,
        stage=call.stage,
        workload=call.workload,
        tenant=call.tenant,
        model=call.model,
        task=call.task,
        worker=worker,
        due=call.at,
        sent=sent,
        outcome=outcome,
    )


def _answer(call: Call, exchange: Exchange, api: Api) -> Answer:
    if exchange.status != 200:
        return Answer()
    if call.task == "generate" and not exchange.body:
        return api.read_stream(exchange.lines)
    answer = Answer() if exchange.broken else api.read_body(exchange.body)
    if call.task == "generate":
        answer.items = 0  # the parts of a whole answer are no texts of a batch
    return answer


def _outcome(exchange: Exchange, answer: Answer) -> tuple[Outcome, str | None]:
    status = exchange.status
    if status is not None and status != 200:
        return _refusal(status), f"{status} {_message(exchange.body)}"
    if answer.error is not None:
        return "stream_error", answer.error
    if exchange.hung_up:
        return "cancelled", None
    if exchange.broken is not None and not answer.done:
        return exchange.broken, exchange.detail
    if not answer.done:
        return "truncated", "the stream ended without [DONE]"
    return "ok", None


def _refusal(status: int) -> Outcome:
    if status in _REFUSED:
        return "refused"
    return "deadline" if status == _DEADLINE else "http_error"


def _message(body: bytes) -> str:
    try:
        return error_of(parse(body)) or ""
    except MalformedAnswer:
        return body[:80].decode("utf-8", "replace")
