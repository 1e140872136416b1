"""Bodies of GET /v1/adapters."""

from typing import Literal

from service.api.schemas.base import AnswerBody


class ProofBody(AnswerBody):
    """What an adapter's golden examples showed on this engine before it served."""

    passed: int
    total: int
    accuracy: float
    min_accuracy: float
    seconds: float


class AdapterBody(AnswerBody):
    """One adapter. It answers as `name` and as `name@version`.

    Quarantined, it has a `reason` and nothing else; `proof` is null when it has no golden examples.
    """

    name: str
    state: Literal["serving", "quarantined"]
    version: str | None = None
    digest: str | None = None
    task: Literal["classification", "generation"] | None = None
    labels: list[str] | None = None
    load_seconds: float | None = None
    proof: ProofBody | None = None
    reason: str | None = None


class AdapterList(AnswerBody):
    """The adapters that are configured here."""

    object: Literal["list"] = "list"
    data: list[AdapterBody]
