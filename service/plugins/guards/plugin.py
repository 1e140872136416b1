"""Guards as a plugin: they judge requests and answers on every route; POST /v1/moderations."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote as percent_encoded

from fastapi import APIRouter

from service.common.aio import gather
from service.common.error_messages import quote
from service.context import RequestContext
from service.context.answer import Guarded
from service.engine.texts import size_of, size_of_tokens
from service.errors import InvalidRequest, NotFound, UnsupportedFeature
from service.http.json_routes import JsonRoute, TheContext, TheRuntime, offload_if_large
from service.plugin import Host, Plugin, Runtime, Served
from service.plugins.guards.bodies import ModerationAnswer, ModerationBody, ModerationRequest
from service.plugins.guards.guards import GuardMetrics, Guards, Verdict
from service.plugins.guards.policies import GuardedAnswer, Policies
from service.plugins.guards.settings import GuardsSettings
from service.plugins.guards.texts import Read, texts_of

_FLAGGED_HEADER = "x-guard-flagged"

router = APIRouter(route_class=JsonRoute, tags=["openai"])


class GuardsPlugin(Plugin):
    """Judges texts by classifiers; enabled if `guards.named` names any."""

    routers = (router,)
    switch = "guards.named"
    operations: ClassVar = {"/v1/moderations": "classify"}

    @classmethod
    def of(cls, host: Host) -> "GuardsPlugin | None":
        settings = host.settings.section(GuardsSettings)
        return cls(settings, GuardMetrics(host.registry)) if settings.named else None

    def __init__(self, settings: GuardsSettings, metrics: GuardMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.guards: Guards
        self._policies: Policies

    @asynccontextmanager
    async def lifespan(self, service: Runtime) -> AsyncIterator[None]:
        self.guards = Guards(self._settings, service.models, self._metrics)
        await self.guards.check()
        self._policies = Policies(self._settings, self.guards, self._metrics)
        yield

    async def accept(self, request: Served) -> None:
        """Have the tenant's guards judge the texts of a body, and later those of its answer.

        Raises what `Policies.check_input` raises, InvalidRequest for a prompt of more tokens than
        the model reads, and UnsupportedFeature for a body that asks for tokens which a guard cannot
        hold back.
        """
        context, policy = request.context, self._policies.of(request.context)
        judges_answer = bool(policy.output) and request.writes
        if not (policy.input or judges_answer):
            return
        body = request.body
        if judges_answer:
            _check_tokens(body, redacts=policy.on == "redact")
            tools = bool(body.get("tools"))
            reader = GuardedAnswer(self._policies, policy, context, tools=tools)
            context.extended(Guarded).answer = reader
        if policy.input:
            found = await offload_if_large(context.body_bytes, texts_of, body)
            texts = [await _text(each, request.runtime) for each in found]
            await self._policies.check_input(texts, policy, context)

    def headers(self, context: RequestContext, status: int) -> Mapping[str, str]:
        guarded = context.extension(Guarded)
        if guarded is None or not guarded.flags:
            return {}
        return {_FLAGGED_HEADER: ", ".join(map(percent_encoded, guarded.flags))}


def _guards(runtime: Runtime) -> Guards:
    return runtime.plugins.get(GuardsPlugin).guards


@router.post("/v1/moderations")
async def moderations(
    body: ModerationRequest, runtime: TheRuntime, context: TheContext
) -> ModerationAnswer:
    """Judge texts by the guards that the key may use, or by one of them."""
    names = _chosen(body.model, _guards(runtime).usable_by(context))
    texts = body.texts(runtime.settings.limits)
    found = await gather(_guards(runtime).read(name, texts, context) for name in names)
    return ModerationAnswer(
        id=f"modr-{context.request_id}",
        model=", ".join(names),
        results=[_result(dict(zip(names, of, strict=True))) for of in zip(*found, strict=True)],
    )


def _chosen(asked: str | None, usable: Sequence[str]) -> Sequence[str]:
    chosen = [name for name in usable if asked in (None, name)]
    if not chosen:
        missing = "There is no guard" if asked is None else f"model: no guard {quote(asked)}"
        raise NotFound(f"{missing} that this key may use", code="model_not_found", param="model")
    return chosen


def _result(verdicts: Mapping[str, Verdict]) -> ModerationBody:
    scores = {
        f"{guard}/{label}": score
        for guard, verdict in verdicts.items()
        for label, score in verdict.scores.items()
    }
    flagged = {
        f"{guard}/{label}" for guard, verdict in verdicts.items() for label in verdict.flagged
    }
    return ModerationBody(
        flagged=bool(flagged),
        categories={category: category in flagged for category in scores},
        category_scores=scores,
        category_applied_input_types={category: ["text"] for category in scores},
    )


def _check_tokens(body: Mapping[str, Any], *, redacts: bool) -> None:
    """Refuse fields with which an answer shows its tokens, which no guard reads or redacts."""
    if body.get("return_token_ids"):
        raise UnsupportedFeature(
            "return_token_ids: not for this key, whose answers are read by a guard",
            param="return_token_ids",
        )
    shown = {"logprobs": body.get("logprobs"), "include": body.get("include") or None}
    for field, value in shown.items():
        if redacts and value is not None and value is not False:
            raise UnsupportedFeature(
                f"{field}: not for this key, whose answers may be redacted", param=field
            )


async def _text(given: Read, runtime: Runtime) -> str:
    if isinstance(given, str):
        return given
    engine = runtime.base.engine
    if len(given) > (most := engine.model.max_model_len):
        raise InvalidRequest(
            f"prompt: {len(given)} tokens, at most {most} fit the model's context",
            code="context_length_exceeded",
            param="prompt",
        )
    text = await engine.prepare(size_of_tokens(given), partial(engine.decode, given))
    # A token may stand for a hundred characters.
    if (size := size_of(text)) > (longest := runtime.settings.http.max_body_bytes):
        raise InvalidRequest(
            f"prompt: the text of its tokens has {size} bytes, and guards read at most {longest}",
            code="guard_unreadable",
            param="prompt",
        )
    return text
