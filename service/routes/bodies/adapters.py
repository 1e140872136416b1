"""Bodies of GET /v1/adapters."""

from typing import Literal

from service.http.bodies import AnswerBody


class FingerprintBody(AnswerBody):
    """Log-probabilities compared with those packed.

    `distance` is a root mean square in nats; `effect` is 1 if the weights differ from the base as
    much as they did at packing, 0 if they do not.
    """

    reads: int
    distance: float
    effect: float


class ProofBody(AnswerBody):
    """Results of an adapter's golden examples on this engine before it served.

    `base_passed` counts those that the base passes too; `fingerprint` is null without one.
    """

    passed: int
    total: int
    accuracy: float
    min_accuracy: float
    base_passed: int
    fingerprint: FingerprintBody | None = None
    seconds: float


class AdapterBody(AnswerBody):
    """One adapter. It answers as `name` and as `name@version`.

    `versions` are all that answer as `name@version`, also a release's next one.
    `unproven` it is served without a whole proof and `reason` says what is missing; `proof` is null
    when it has no golden examples; `signed_by` names the trusted key that signed it. `quarantined`
    it has a `reason` and nothing else.
    """

    name: str
    state: Literal["serving", "unproven", "quarantined"]
    version: str | None = None
    versions: list[str] | None = None
    digest: str | None = None
    license: str | None = None
    base_license: str | None = None
    task: Literal["classification", "generation"] | None = None
    labels: list[str] | None = None
    load_seconds: float | None = None
    signed_by: str | None = None
    proof: ProofBody | None = None
    reason: str | None = None


class AdapterList(AnswerBody):
    """The adapters that are configured here."""

    object: Literal["list"] = "list"
    data: list[AdapterBody]
