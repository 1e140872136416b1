"""GET /v1/adapters."""

from typing import Literal

from fastapi import APIRouter

from service.adapters.manifest import ClassificationManifest
from service.adapters.proof import Proof
from service.adapters.registry import Entry, ServedVersion
from service.http.bodies import AnswerBody
from service.http.json_routes import TheContext, TheRuntime


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

    `versions` are all that answer as `name@version`, also a release's next one. In the state
    `unproven` it is served without a complete proof, and `reason` says what is missing; `proof` is
    null when it has no golden examples; `signed_by` names the trusted key that signed it. In the
    state `quarantined` it has a `reason` and nothing else.
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


router = APIRouter(tags=["models"])


@router.get("/v1/adapters")
async def adapters(runtime: TheRuntime, context: TheContext) -> AdapterList:
    """The caller's adapters: their tasks, proofs and states."""
    models = runtime.models
    data = []
    for name, entry in sorted(models.adapters(context.tenant).items()):
        body = adapter_body(name, entry)
        data.append(body.model_copy(update={"versions": models.versions(name) or None}))
    return AdapterList(data=data)


def adapter_body(name: str, entry: Entry) -> AdapterBody:
    """An adapter in the answer; a quarantined one with the reason only."""
    if not isinstance(entry, ServedVersion):
        return AdapterBody(name=name, state="quarantined", reason=entry.shown)
    manifest, proof = entry.manifest, entry.proof
    labels = manifest.classification.labels if isinstance(manifest, ClassificationManifest) else ()
    return AdapterBody(
        name=name,
        state=entry.state,
        version=manifest.version,
        digest=entry.adapter.digest,
        license=manifest.license,
        base_license=manifest.base_license,
        task=manifest.task,
        labels=list(labels) or None,
        load_seconds=round(entry.load_seconds, 3),
        signed_by=entry.signed_by,
        proof=proof and _proof(proof),
        reason=entry.unproven,
    )


def _proof(proof: Proof) -> ProofBody:
    match = proof.fingerprint
    return ProofBody(
        passed=proof.result.passed,
        total=proof.result.total,
        accuracy=proof.result.accuracy,
        min_accuracy=proof.min_accuracy,
        base_passed=proof.base.passed,
        fingerprint=match
        and FingerprintBody(
            reads=match.reads,
            distance=round(match.distance, 3),
            effect=round(match.effect, 3),
        ),
        seconds=round(proof.seconds, 3),
    )
