"""GET /v1/models, as OpenAI's."""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from service.adapters.registry import ServedVersion
from service.classification.encoder import Verdicts
from service.context import RequestContext
from service.engine.pooling import EncoderInfo
from service.http.json_routes import TheContext, TheRuntime
from service.openai.answers import Model, ModelList
from service.runtime.parts import Runtime

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


router = APIRouter(tags=["openai"])

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


@router.get("/v1/models", response_model=None, responses={200: {"model": ModelList}})
async def models(runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """The base model, the adapters and the encoders that the caller may use."""
    adapters = runtime.models.adapters(context.tenant)
    served = {name: each for name, each in adapters.items() if isinstance(each, ServedVersion)}
    cards = _cards(served, runtime, context)
    encoders = [encoder_card(info) for info in runtime.models.encoders(context.tenant)]
    return {"object": "list", "data": cards + encoders}


@router.get("/v1/models/{name:path}", response_model=None, responses={200: {"model": Model}})
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
    return [_card(name, above, task, runtime) for name, above, task in named]


def _card(name: str, parent: str | None, task: str, runtime: Runtime) -> dict[str, Any]:
    """One card; its `root` is the name itself, since a folder of the server is nobody's business.

    `tools` is true where a chat may call tools.
    """
    engine, now = runtime.base.engine, int(time.time())
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
    }
