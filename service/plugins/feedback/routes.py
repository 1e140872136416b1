"""POST /v1/feedback."""

from fastapi import APIRouter

from service.adapters.registry import Models
from service.errors import NotFound, UnsupportedFeature
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugins.feedback.answer_ids import RatedAnswer
from service.plugins.feedback.bodies import FeedbackAnswer, FeedbackRequest
from service.plugins.feedback.rating import Rating

router = APIRouter(route_class=JsonRoute, tags=["adapters"])


@router.post("/v1/feedback")
async def feedback(
    body: FeedbackRequest, runtime: TheRuntime, context: TheContext
) -> FeedbackAnswer:
    """Say whether an answer of the last day was right, by its `X-Feedback-Id`; once."""
    body.check_one()
    answer = runtime.feedback.ids.read(body.id, context.tenant.name)
    if not runtime.models.may_use(answer.adapter, context.tenant):
        raise NotFound("id: its adapter is not for this caller any more", code="model_not_found")
    rating = _rating(body, answer, runtime.models, context)
    runtime.feedback.rate(answer, rating, context.tenant.name)
    return FeedbackAnswer(model=answer.adapter, version=answer.version, score=rating.score)


def _rating(
    body: FeedbackRequest, answer: RatedAnswer, models: Models, context: TheContext
) -> Rating:
    if body.label is not None:
        if answer.told is None:
            raise UnsupportedFeature(
                "label: this id holds no label, because the answer is generated, may have several "
                "labels, or came in lines, another text first; send `correct` or `score`",
                param="label",
            )
        label = models.label_place(answer.adapter, answer.version, body.label, context.tenant)
        return Rating.by_label(answer.told, label)
    if body.correct is not None:
        return Rating.by_word(answer.told, correct=body.correct)
    return Rating(body.score)
