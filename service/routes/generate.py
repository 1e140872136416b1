"""POST /v1/generate."""

import time
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from service.context import RequestContext
from service.engine.contract import Writer
from service.generation.text import GenerationRequest, Summary, TextDelta, stream
from service.http.bodies import TimingBody
from service.http.exchange import DONE, STREAMED, PushedStream, event
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.routes.abstention import ConfidencePolicy
from service.routes.generate_bodies import GenerateAnswer, GenerateRequest, UsageBody
from service.runtime.parts import Runtime, Served

router = APIRouter(route_class=JsonRoute, tags=["generation"])


@router.post("/v1/generate", response_model=GenerateAnswer, responses=STREAMED)
async def generate(body: GenerateRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Generate text from a prompt or a conversation, whole or as server-sent events."""
    model = runtime.models.choose(body.model, context)
    if body.messages is not None:
        model.check_converses()
    task = body.task(model.adapter, runtime.settings.limits)
    judge = ConfidencePolicy.of(body, model, context, runtime)
    context.set_timeout(body.timeout_ms)
    await runtime.plugins.accept(Served(context, runtime, body.model_dump))
    if body.stream:
        return _stream(runtime, task, judge)
    outputs, usage = await judge.collect(runtime.base.engine, task)
    answer = GenerateAnswer(
        id=context.request_id,
        model=body.model,
        created=int(time.time()),
        outputs=[judge.output(output) for output in outputs],
        usage=UsageBody(**asdict(usage)),
        timing=TimingBody.of(context),
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _stream(runtime: Runtime, task: GenerationRequest, judge: ConfidencePolicy) -> Response:
    async def write_to(writer: Writer) -> None:
        event_of = partial(_delta, judge.context)
        summary = await stream(runtime.base.engine, task, writer, event_of)
        writer.write(event(_summary(summary, judge)) + DONE)
        await writer.flush()

    return PushedStream(write_to)


def _delta(context: RequestContext, delta: TextDelta) -> bytes:
    return event(
        {
            "id": context.request_id,
            "index": delta.index,
            "text": delta.text,
            "finish_reason": delta.finish_reason,
        }
    )


def _summary(summary: Summary, judge: ConfidencePolicy) -> dict[str, Any]:
    context = judge.context
    body = {
        "id": context.request_id,
        "model": context.model,
        "usage": summary.usage,
        "timing": TimingBody.of(context),
    }
    if summary.confidence:
        body["confidence"] = [
            judge.confidence(measures, reason)
            for measures, reason in zip(summary.confidence, summary.finish_reasons, strict=True)
        ]
    return body
