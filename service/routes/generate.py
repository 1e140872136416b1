"""POST /v1/generate: the answer, how sure it is, and the withholding of uncertain answers."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from service.adapters.choice import ChosenModel
from service.adapters.confidence import FittedMap, Match, Siblings
from service.adapters.golden_score import agreement
from service.common.error_messages import quote
from service.context import RequestContext, Tokens
from service.context.answer import Guarded
from service.engine.contract import Part, Sampling
from service.engine.texts import Writer
from service.errors import InvalidRequest, UnsupportedFeature
from service.generation.fold import Confidence
from service.generation.text import (
    Answer,
    GenerationRequest,
    Summary,
    collect,
    siblings,
    stream,
)
from service.http.bodies import TimingBody
from service.http.exchange import DONE, STREAMED, PushedStream, event
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.routes.generate_bodies import (
    ConfidenceBody,
    GenerateAnswer,
    GenerateRequest,
    OutputBody,
    TextFormat,
    UsageBody,
)
from service.runtime.parts import Runtime, Served

router = APIRouter(route_class=JsonRoute, tags=["generation"])


@router.post("/v1/generate", response_model=GenerateAnswer, responses=STREAMED)
async def generate(body: GenerateRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Generate text from a prompt or a conversation, whole or as server-sent events."""
    model = runtime.models.choose(body.model, context)
    if body.messages is not None:
        model.check_converses()
    task = body.task(
        model.adapter,
        model.sampling(runtime.base.engine.model.sampling_defaults),
        runtime.settings.limits,
    )
    policy = ConfidencePolicy.of(body, task.sampling, model, context, runtime)
    await runtime.plugins.accept(Served(context, runtime, body.model_dump))
    if body.stream:
        return PushedStream(partial(_write_events, runtime, task, policy))
    outputs, usage = await policy.collect(task)
    answer = GenerateAnswer(
        id=context.request_id,
        model=body.model,
        created=int(time.time()),
        outputs=[policy.render(output) for output in outputs],
        usage=UsageBody.of(usage),
        timing=TimingBody.of(context),
    )
    return Response(answer.model_dump_json(), media_type="application/json")


async def _write_events(
    runtime: Runtime, task: GenerationRequest, policy: "ConfidencePolicy", writer: Writer
) -> None:
    context = policy.context

    def event_of(delta: Part) -> bytes:
        return event(
            {
                "id": context.request_id,
                "index": delta.index,
                "text": delta.text,
                "finish_reason": delta.finish_reason,
            }
        )

    summary = await stream(runtime.base.engine, task, writer, event_of)
    writer.write(event(_last_event(summary, policy)) + DONE)
    await writer.flush()


def _last_event(summary: Summary, policy: "ConfidencePolicy") -> dict[str, Any]:
    context = policy.context
    body = {
        "id": context.request_id,
        "model": context.model,
        "usage": UsageBody.of(summary.usage),
        "timing": TimingBody.of(context),
    }
    if summary.confidence:
        body["confidence"] = [
            policy.rate(measures, reason)
            for measures, reason in zip(summary.confidence, summary.finish_reasons, strict=True)
        ]
    return body


@dataclass(frozen=True, slots=True)
class ConfidencePolicy:
    """Renders confidence and withholds answers that are less certain than `least`.

    `map` gives the probability that an answer is right; it is None if no map applies to the
    request. With `drawn` the map also uses agreement: further answers are sampled but not sent, and
    the rule `match` decides which of them agree with the greedy answer.
    """

    runtime: Runtime
    context: RequestContext
    map: FittedMap | None
    least: float | None
    drawn: Siblings | None
    match: Match | None

    @classmethod
    def of(
        cls,
        body: GenerateRequest,
        sampling: Sampling,
        model: ChosenModel,
        context: RequestContext,
        runtime: Runtime,
    ) -> "ConfidencePolicy":
        """The policy for a request's answers.

        Raises InvalidRequest if no map applies, but `min_confidence` or `agreement` needs one.
        """
        found, unlike = model.confidence_map, _not_greedy(body, sampling)
        compared = found.agreement if found is not None and body.agreement else None
        if body.min_confidence is not None:
            _check_map("min_confidence", body, found, unlike)
        if body.agreement:
            _check_map("agreement", body, compared, unlike)
        drawn = None if compared is None else compared.siblings
        most = runtime.settings.limits.n
        if drawn is not None and drawn.samples > most:
            raise InvalidRequest.at(
                "agreement",
                f"the map needs {drawn.samples} sampled answers, limits.n allows {most}",
            )
        held = None if unlike else compared or found
        match = None if found is None else found.match
        return cls(runtime, context, held, body.min_confidence, drawn, match)

    async def collect(self, task: GenerationRequest) -> tuple[Sequence[Answer], Tokens]:
        """The whole answers, before any is withheld, and the tokens of all.

        Raises as `text.collect`. An answer and its siblings are admitted as a whole. An answer
        that was cut has no agreement.
        """
        engine, drawn, match = self.runtime.base.engine, self.drawn, self.match
        if drawn is None or match is None:
            return await collect(engine, await task.prepare(engine))
        self.context.parts += drawn.samples
        job = await task.prepare(engine)
        (output,), usage = await collect(engine, job)
        if output.confidence is None or output.finish_reason != "stop":
            return [output], usage
        # The guard has read the answer; nobody gets the siblings.
        self.context.extended(Guarded).answer = None
        texts, more = await siblings(engine, job, drawn.samples, drawn.temperature)
        share = agreement(output.text, texts, match)
        measured = replace(output.confidence, agreement=share)
        usage.add(more)
        return [replace(output, confidence=measured)], usage

    def rate(self, measures: Confidence | None, reason: str | None) -> ConfidenceBody | None:
        """The measures, with `p_correct` if the answer is complete and the map applies to it."""
        if measures is None:
            return None
        named, map_ = asdict(measures), self.map if reason == "stop" else None
        return ConfidenceBody(**named, p_correct=None if map_ is None else map_.p_correct(named))

    def render(self, output: Answer) -> OutputBody:
        """The answer; its text is withheld if it is less certain than the request demands."""
        confidence = self.rate(output.confidence, output.finish_reason)
        p_correct = None if confidence is None else confidence.p_correct
        withheld = self.least is not None and (p_correct is None or p_correct < self.least)
        if self.map is not None and confidence is not None:
            self.runtime.metrics.count_generation(self.context, p_correct, withheld=withheld)
        return OutputBody(
            index=output.index,
            text="" if withheld else output.text,
            finish_reason="abstained" if withheld else output.finish_reason or "stop",
            confidence=confidence,
        )


def _check_map(
    field: str, body: GenerateRequest, found: FittedMap | None, unlike: str | None
) -> None:
    """Raise for a field that needs a map which there is not, or which does not hold."""
    if found is None:
        compares = field == "agreement"
        wanted, option = (" of agreement", " --agreement N") if compares else ("", "")
        raise UnsupportedFeature.at(
            field,
            f"{quote(body.model)} has no confidence map{wanted}; `llm-service "
            f"calibrate{option}` fits one for a generation adapter",
        )
    if body.stream:
        raise InvalidRequest.at(
            field, "an answer is judged when it is whole; stream must be false, got true"
        )
    if unlike is not None:
        raise InvalidRequest.at(field, f"the map is for greedy answers; {unlike}")


_NEUTRAL = {
    "temperature": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
}


def _not_greedy(body: GenerateRequest, sampling: Sampling) -> str | None:
    """A sentence on the field that makes the request not greedy; None if it is greedy."""
    for name, neutral in _NEUTRAL.items():
        if (value := getattr(sampling, name)) != neutral:
            return f"{name} must be {neutral}, got {value:g}"
    if body.stop:
        return "stop must be empty"
    if body.response_format is not None and not isinstance(body.response_format, TextFormat):
        return f"response_format must be text, got {body.response_format.type}"
    return None
