"""The engine's first requests, one for each path through it, before any user's."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.engine.protocol import MAX_READ_IDS
from service.errors import ConfigurationError
from service.generation.confidence import TOP_LOGPROBS
from service.settings import section as platform
from service.settings.section import Platform
from service.vllm.stock import read_parameters, stream_parameters
from service.vllm.structured_outputs import choice

_log = logging.getLogger(__name__)

_SLOW_SECONDS = 1.0

_ROWS = (1, 2, 4, 8, 16, 32, 64, 65, 80)
"""Sizes of batches: up to 64 rows a row is split over a power of two of programs, beyond it is not;
Triton compiles multiples of 16 apart."""


async def warm_up(llm: Any, headers: Mapping[str, str] | None = None) -> None:
    """Make a request for each path of the platform that the engine has room for, in turn.

    The requests go past the gate, which would take the time of compiling for the engine's speed.
    `headers` are those of untraced requests. Raises ConfigurationError if all together take longer
    than the platform's `warm_up_s`, and the errors of vLLM.
    """
    here = platform.installed()
    try:
        async with asyncio.timeout(here.warm_up_s):
            await _take(llm, paths(here), headers)
    except TimeoutError as error:
        raise ConfigurationError(
            f"engine: its first requests took more than {here.warm_up_s:g} s; its log says which"
        ) from error


async def _take(
    llm: Any, wanted: Iterable[tuple[str, Any]], headers: Mapping[str, str] | None
) -> None:
    (prompt,) = llm.renderer.render_cmpl([{"prompt": "Hello"}])
    sequences: int = llm.vllm_config.scheduler_config.max_num_seqs
    logprobs: int = llm.model_config.max_logprobs
    for name, params in wanted:
        if params.n > sequences or 0 <= logprobs < (params.logprobs or 0):
            continue
        started = time.monotonic()
        outputs = llm.generate(prompt, params, f"warm-up {name}", trace_headers=headers)
        async for _ in outputs:
            pass
        if (seconds := time.monotonic() - started) > _SLOW_SECONDS:
            _log.info("warm-up: %s took %.1f s", name, seconds)


def paths(here: Platform) -> Iterator[tuple[str, Any]]:
    """A name and parameters for each path whose first use is slow.

    On GPUs vLLM's samplers are kernels that Triton compiles when they are first used: one for each
    power of two of log-probabilities, another where these and the token's own are a multiple of 16,
    and several for each way to cut the distribution, by the rows of the batch
    (vllm.v1.sample.ops.topk_topp_triton).
    """
    yield "log-probabilities", _params(logprobs=TOP_LOGPROBS)
    yield "choice", _params(structured_outputs=choice(["yes", "no"]))
    yield "label read of 2", _read(2)
    if here is platform.CUDA:
        yield from _cuts()
        yield from _cuda_paths()


def _cuts() -> Iterator[tuple[str, Any]]:
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


def _cuda_paths() -> Iterator[tuple[str, Any]]:
    yield "penalties", _params(presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.1)
    yield "min_p", _params(min_p=0.1)
    yield "logit_bias", _params(logit_bias={0: 1.0})
    yield "allowed_token_ids", _params(allowed_token_ids=[0, 1])
    yield "min_tokens", _params(min_tokens=1, stop_token_ids=[0])
    yield "bad_words", _params(bad_words=["a"])
    yield "echo", _params(prompt_logprobs=1)
    for count in (0, 1, 2, 5, 10, 15, 20):
        yield f"{count} log-probabilities", _params(logprobs=count)
    for count in (1, 4, 8, 15, 16, 31, 32, 63, 64, MAX_READ_IDS - 1, MAX_READ_IDS):
        yield f"label read of {count}", _read(count)


def _params(*, max_tokens: int = 2, **options: Any) -> Any:
    return stream_parameters(max_tokens=max_tokens, **options)


def _read(count: int) -> Any:
    return read_parameters(range(count))
