"""The engine's first requests, one for each path through it, before any user's."""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from service.engine.protocol import MAX_READ_IDS
from service.generation.confidence import TOP_LOGPROBS
from service.settings import platform
from service.settings.platform import Platform

_log = logging.getLogger(__name__)

_SLOW_SECONDS = 1.0

_ROWS = (1, 2, 4, 8, 16, 32, 64, 65, 80)
"""Sizes of batches: up to 64 rows a row is split over a power of two of programs, beyond it is not;
Triton compiles multiples of 16 apart."""

Stream = Callable[[Any, SamplingParams], AsyncGenerator[Any, None]]
"""Streams the answer to a prompt under a permit, as `GatedClient.stream` does."""


async def warm_up(stream: Stream, prompt: Any, sequences: int, max_logprobs: int) -> None:
    """Take each path of the platform, one after the other, as part of the current request.

    `sequences` is the most that run at once, `max_logprobs` the most that vLLM returns, -1 for all.
    Raises what a stream raises.
    """
    most = max_logprobs if max_logprobs >= 0 else MAX_READ_IDS
    for name, params in paths(platform.installed()):
        if params.n > sequences or (params.logprobs or 0) > most:
            continue
        started = time.monotonic()
        async for _ in stream(prompt, params):
            pass
        if (seconds := time.monotonic() - started) > _SLOW_SECONDS:
            _log.info("warm-up: %s took %.1f s", name, seconds)


def paths(here: Platform) -> Iterator[tuple[str, SamplingParams]]:
    """A name and parameters for each path whose first use is slow.

    On GPUs vLLM's samplers are kernels that Triton compiles when they are first used: one for each
    power of two of log-probabilities, and several for each way to cut the distribution, by the rows
    of the batch (vllm.v1.sample.ops.topk_topp_triton).
    """
    yield "log-probabilities", _params(logprobs=TOP_LOGPROBS)
    yield "choice", _params(structured_outputs=StructuredOutputsParams(choice=["yes", "no"]))
    yield "label read of 2", _read(2)
    if here is platform.CUDA:
        yield from _cuts()
        yield from _cuda_paths()


def _cuts() -> Iterator[tuple[str, SamplingParams]]:
    cuts: tuple[dict[str, Any], ...] = ({"top_p": 0.9}, {"top_k": 20}, {"top_p": 0.9, "top_k": 20})
    for cut in cuts:
        name = " and ".join(cut)
        # Where FlashInfer is on, it samples batches without a seed.
        yield name, _params(**cut)
        for rows in _ROWS:
            # Answers of several tokens, so that all of them run in one step however they arrive.
            yield (
                f"{name} of {rows} rows",
                _params(n=rows, max_tokens=8, ignore_eos=True, seed=1, **cut),
            )


def _cuda_paths() -> Iterator[tuple[str, SamplingParams]]:
    yield "penalties", _params(presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.1)
    yield "min_p", _params(min_p=0.1)
    yield "logit_bias", _params(logit_bias={0: 1.0})
    yield "allowed_token_ids", _params(allowed_token_ids=[0, 1])
    yield "min_tokens", _params(min_tokens=1, stop_token_ids=[0])
    yield "bad_words", _params(bad_words=["a"])
    yield "echo", _params(prompt_logprobs=1)
    for count in (0, 1, 2, 5, 10, 20):
        yield f"{count} log-probabilities", _params(logprobs=count)
    for count in (1, 4, 8, 16, 32, 64, MAX_READ_IDS):
        yield f"label read of {count}", _read(count)


def _params(*, max_tokens: int = 2, **options: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA, **options)


def _read(count: int) -> SamplingParams:
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(range(count)),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
