"""Outputs of vLLM that a guard reads: put together, refused, and apart from the push's end."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from service.vllm.generation import Generation
from service.vllm.guarded import Inbox, guarded
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams

from service.errors import OutputFlagged
from tests.generation.test_held import FIRST, SECOND, Shouting


class Request:
    """The part of a `Generation` that is read."""

    params = SamplingParams()


def output(text: str, *, finished: bool = False) -> RequestOutput:
    reason = "stop" if finished else None
    answer = CompletionOutput(0, text, [1], None, None, finish_reason=reason)
    return RequestOutput("r", "p", [1], None, [answer], finished)


def read(inbox: Inbox, pieces: list[str], seen: list[str]) -> AsyncGenerator[RequestOutput, None]:
    async def push() -> None:
        try:
            for number, piece in enumerate(pieces, 1):
                inbox.take(output(piece, finished=number == len(pieces)))
                await asyncio.sleep(0)
            seen.append("written")
        except asyncio.CancelledError:
            seen.append("aborted")
            raise

    return guarded(inbox.outputs(push), cast(Generation, cast(Any, Request)), Shouting())


@pytest.mark.parametrize("whole", [False, True])
async def test_the_guards_text_is_handed_on_with_all_tokens(whole: bool) -> None:
    pieces = [*FIRST, *SECOND, "end"]
    found = [each async for each in read(Inbox(whole=whole), pieces, [])]
    answers = [each.outputs[0] for each in found]
    assert "".join(answer.text for answer in answers) == (FIRST + SECOND + "end").upper()
    assert sum(len(answer.token_ids) for answer in answers) == len(pieces)
    assert [each.finished for each in found] == [False] * (len(found) - 1) + [True]
    assert (len(found) == 1) == whole


async def test_a_refusal_ends_the_push_after_what_was_clear() -> None:
    seen: list[str] = []
    outputs = read(Inbox(whole=False), [*FIRST, *"This is the secret of it all. ", *SECOND], seen)
    sent: list[str] = []

    async def send() -> None:
        async for each in outputs:
            sent.append(each.outputs[0].text)

    with pytest.raises(OutputFlagged):
        await send()
    assert sent == [FIRST.upper()]
    assert seen == ["aborted"]


async def test_the_push_ends_while_its_outputs_wait() -> None:
    seen: list[str] = []
    outputs = read(Inbox(whole=False), [FIRST + "x", SECOND], seen)
    first = await anext(outputs)
    for _ in range(9):
        await asyncio.sleep(0)
    assert seen == ["written"]  # its permit is back, though nobody reads on
    assert first.outputs[0].text == FIRST.upper()
    assert [each.finished async for each in outputs] == [True]
