"""GET /v1/adapters."""

from fastapi import APIRouter

from service.adapters.manifest import ClassificationManifest
from service.adapters.proof import Proof
from service.adapters.registry import Entry, ServedVersion
from service.http.json_routes import TheContext, TheRuntime
from service.routes.bodies.adapters import AdapterBody, AdapterList, FingerprintBody, ProofBody

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
