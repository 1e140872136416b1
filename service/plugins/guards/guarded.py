"""Guards before generation and after it, for every route that generates."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from service.context import RequestContext
from service.context.answer_guard import Guarded
from service.engine.text_size import size_of, size_of_tokens
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.json_routes import by_size
from service.plugins.guards.answers import GuardedAnswer
from service.plugins.guards.texts import Read, texts_of
from service.runtime.parts import Runtime


async def guard(
    read: Callable[[], Mapping[str, Any]],
    runtime: Runtime,
    context: RequestContext,
    *,
    writes: bool = True,
) -> None:
    """Have the tenant's guards judge the texts of a body, and later its answer's if it `writes`.

    `read` gives the body, and is called only where a guard reads. Raises what
    `Policies.check_input` raises, InvalidRequest for a prompt of more tokens than the model reads,
    and UnsupportedFeature for a body that asks for tokens which a guard cannot hold back.
    """
    policies = runtime.policies
    policy = policies.of(context)
    judges_answer = bool(policy.output) and writes
    if not (policy.input or judges_answer):
        return
    body = read()
    if judges_answer:
        _check_tokens(body, redacts=policy.on == "redact")
        tools = bool(body.get("tools"))
        reader = GuardedAnswer(policies, policy, context, tools=tools)
        context.extended(Guarded).answer = reader
    if policy.input:
        found = await by_size(context.body_bytes, texts_of, body)
        texts = [await _text(each, runtime) for each in found]
        await policies.check_input(texts, policy, context)


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
