"""OpenAI's models: the language model and its adapters as vLLM shows them, and the encoders."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from service.api.dependencies import TheContext, TheRuntime
from service.api.encoder_card import encoder_card
from service.api.handlers import surface
from service.context import RequestContext
from service.fleet.version import ServedVersion
from service.runtime.parts import Runtime

router = APIRouter(tags=["openai"])


@router.get("/v1/models")
async def models(runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """The base model, the adapters and the encoders that the caller may use."""
    adapters = runtime.models.adapters(context.tenant)
    served = {name: each for name, each in adapters.items() if isinstance(each, ServedVersion)}
    cards = await _cards(served, runtime, context)
    encoders = [encoder_card(info) for info in runtime.models.encoders(context.tenant)]
    return {"object": "list", "data": cards + encoders}


@router.get("/v1/models/{name:path}")
async def model(name: str, runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """One of these models."""
    if runtime.models.is_encoder(name):
        return encoder_card(runtime.models.choose_encoder(name, context).info)
    version = runtime.models.choose(name, context).version
    cards = await _cards({} if version is None else {name: version}, runtime, context)
    return next(card for card in cards if card["id"] == name)


async def _cards(
    versions: Mapping[str, ServedVersion], runtime: Runtime, context: RequestContext
) -> list[dict[str, Any]]:
    if runtime.language_model is None:
        return []
    tasks = {name: version.manifest.task for name, version in versions.items()}
    with_base = runtime.models.has_base(context.tenant)
    return await surface(runtime).models(tasks, with_base=with_base)
