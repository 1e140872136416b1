"""What an engine that drafts tokens still reads exactly."""

import asyncio
import logging
import uuid
from typing import Any

from service.vllm.ranks import on_each_rank
from service.vllm.stock import read_parameters, whole_parameters

_log = logging.getLogger(__name__)

_LABELS = (0, 1)
_REPEATED = [2, 3, 4, 5] * 8
"""A prompt whose continuation is easy to draft."""
_TOKENS = 48
_CLOSE = 0.02
"""Largest difference of a log-probability that the size of a batch may make (bfloat16)."""


async def reads_labels(llm: Any) -> bool:
    """True if label reads are right beside answers whose tokens are drafted; logged if not.

    Tries it on each rank. vLLM 0.32's samplers of drafted tokens drop the log-probabilities of
    given tokens; V1's is repaired (`patches.row_rejections`).
    """
    if llm.vllm_config.speculative_config is None:
        return True
    for rank in on_each_rank(llm):
        if not await _reads_beside_drafts(rank):
            _log.warning(
                "engine.speculative_config: this engine drops the log-probabilities of labels "
                "beside drafted tokens; classification is refused"
            )
            return False
    return True


async def _reads_beside_drafts(llm: Any) -> bool:
    alone = await _read(llm)
    drafting = asyncio.create_task(_draft(llm))
    beside = [await _read(llm)]
    while not drafting.done():
        beside.append(await _read(llm))
    await drafting
    return alone is not None and all(
        found is not None and max(abs(a - b) for a, b in zip(alone, found, strict=True)) < _CLOSE
        for found in beside
    )


async def _read(llm: Any) -> list[float] | None:
    """The log-probabilities of the labels after a prompt; None if the engine gives none."""
    prompt = {"prompt_token_ids": [6, 7, 8]}
    found = None
    async for output in llm.generate(prompt, read_parameters(_LABELS), _name()):
        (places,) = output.outputs[0].logprobs or (None,)
        if places is not None and all(label in places for label in _LABELS):
            found = [places[label].logprob for label in _LABELS]
    return found


async def _draft(llm: Any) -> None:
    prompt = {"prompt_token_ids": _REPEATED}
    async for _ in llm.generate(prompt, whole_parameters(_TOKENS), _name()):
        pass


def _name() -> str:
    return f"check-{uuid.uuid4().hex}"
