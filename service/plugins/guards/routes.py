"""POST /v1/moderations."""

from collections.abc import Mapping, Sequence

from fastapi import APIRouter

from service.common.aio import together
from service.common.error_messages import quote
from service.errors import NotFound
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugins.guards.bodies import ModerationAnswer, ModerationBody, ModerationRequest
from service.plugins.guards.guards import Verdict

router = APIRouter(route_class=JsonRoute, tags=["openai"])


@router.post("/v1/moderations")
async def moderations(
    body: ModerationRequest, runtime: TheRuntime, context: TheContext
) -> ModerationAnswer:
    """Judge texts by the guards that the key may use, or by one of them."""
    names = _chosen(body.model, runtime.guards.usable_by(context))
    texts = body.texts(runtime.settings.limits)
    context.set_timeout(body.timeout_ms)
    found = await together(runtime.guards.read(name, texts, context) for name in names)
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
