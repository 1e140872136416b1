"""GET /v1/models in OpenAI's form, /v1/adapters, /health and /version."""

import time
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter

from service.adapters.choice import ChosenModel
from service.adapters.manifest import ClassificationManifest
from service.adapters.proof import Proof
from service.adapters.registry import Entry, ServedVersion
from service.classification.encoder import Verdicts
from service.context import RequestContext
from service.engine.pooling import EncoderInfo
from service.errors import NotReady
from service.http.bodies import AnswerBody
from service.http.json_routes import TheContext, TheRuntime
from service.openai.answers import Model, ModelList
from service.runtime.parts import Runtime
from service.telemetry.lifecycle import package_version

_STARTED = int(time.time())


def encoder_card(info: EncoderInfo) -> dict[str, Any]:
    """The encoder's task, and what its answers hold: dimensions or labels.

    `zero_shot` is true if it can choose among labels of the request.
    """
    card: dict[str, Any] = {
        "id": info.name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "llm-service",
        "root": info.name,
        "parent": None,
        "max_model_len": info.max_model_len,
        "task": info.task,
        "tools": False,
        "digest": info.digest,
    }
    if info.task == "embed":
        return card | {"dimensions": info.width, "matryoshka": info.dimensions is not None}
    if not info.labels:
        return card
    by_inference = Verdicts.of(info.labels) is not None
    return card | {"labels": list(info.labels), "zero_shot": by_inference}


router = APIRouter()

_PERMISSION = {
    "object": "model_permission",
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


@router.get(
    "/v1/models", tags=["openai"], response_model=None, responses={200: {"model": ModelList}}
)
async def models(runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """The base model, the adapters and the encoders that the caller may use."""
    adapters = runtime.models.adapters(context.tenant)
    served = {name: each for name, each in adapters.items() if isinstance(each, ServedVersion)}
    cards = _cards(served, runtime, context)
    encoders = [encoder_card(info) for info in runtime.models.encoders(context.tenant)]
    return {"object": "list", "data": cards + encoders}


@router.get(
    "/v1/models/{name:path}",
    tags=["openai"],
    response_model=None,
    responses={200: {"model": Model}},
)
async def model(name: str, runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """One of these models."""
    if runtime.models.is_encoder(name):
        return encoder_card(runtime.models.choose_encoder(name, context).info)
    version = runtime.models.choose(name, context).version
    cards = _cards({} if version is None else {name: version}, runtime, context)
    return next(card for card in cards if card["id"] == name)


def _cards(
    versions: Mapping[str, ServedVersion], runtime: Runtime, context: RequestContext
) -> list[dict[str, Any]]:
    """The cards of adapters, and of the base if the caller may know it."""
    if runtime.language_model is None:
        return []
    base = runtime.base.engine.model.name
    with_base = runtime.models.has_base(context.tenant)
    parent = base if with_base else None
    named: list[tuple[str, str | None, str]] = []
    if with_base:
        named.append((base, None, "generation"))
    named += [(name, parent, version.manifest.task) for name, version in versions.items()]
    return [_card(name, above, task, runtime, versions.get(name)) for name, above, task in named]


def _card(
    name: str, parent: str | None, task: str, runtime: Runtime, version: ServedVersion | None
) -> dict[str, Any]:
    """One card; its `root` is the name itself, since a folder of the server is nobody's business.

    `tools` is true where a chat may call tools.
    """
    engine, now = runtime.base.engine, int(time.time())
    sampling = ChosenModel(name, version).sampling(engine.model.sampling_defaults)
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "llm-service",
        "root": name,
        "parent": parent,
        "max_model_len": engine.model.max_model_len,
        "permission": [{"id": f"modelperm-{name}", "created": now, **_PERMISSION}],
        "task": task,
        "tools": engine.chats.calls_tools and task == "generation",
        "sampling": sampling if task == "generation" else {},
    }


class FingerprintBody(AnswerBody):
    """The fingerprint measured here, compared with the packed one.

    `distance` is a root mean square in nats; `effect` is 1 if the weights differ from the base as
    much as they did at packing, and 0 if they equal the base.
    """

    reads: int
    distance: float
    effect: float


class ProofBody(AnswerBody):
    """Results of an adapter's golden examples on this engine before it served.

    `base_passed` counts the examples that the base passes too; `fingerprint` is null if the adapter
    has none.
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

    `versions` are all versions that answer as `name@version`, including a release's next one. In
    the state `unproven` the adapter is served without a complete proof, and `reason` says what is
    missing. `proof` is null without golden examples. `signed_by` names the trusted key that signed
    the adapter. `examples` are fields of requests to try, if its `show_examples` allows it. In the
    state `quarantined` only `reason` is given.
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
    examples: list[dict[str, Any]] | None = None


class AdapterList(AnswerBody):
    """The adapters that are configured here."""

    object: Literal["list"] = "list"
    data: list[AdapterBody]


@router.get("/v1/adapters", tags=["models"])
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
        examples=list(map(dict, entry.examples)) or None,
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


class Health(AnswerBody):
    """The service is ready."""

    status: Literal["ok"] = "ok"


@router.get("/health", tags=["health"])
@router.get("/ping", tags=["health"])
async def health(runtime: TheRuntime) -> Health:
    """200 when the service is ready for requests; SageMaker uses the path `/ping`."""
    if not runtime.status.ready:
        raise NotReady(f"The server is {runtime.status}.", retry_after=5)
    if runtime.language_model is not None:
        await runtime.language_model.engine.check()
    for encoder in runtime.encoders:
        await encoder.check()
    return Health()


class Version(AnswerBody):
    """The version of the service."""

    version: str


@router.get("/version", tags=["health"])
async def show_version() -> Version:
    """The version of the service."""
    return Version(version=package_version())
