"""A check before the service is ready: each kind of work runs once with each client of vLLM.

The choice of the fast client compares only names and signatures in vLLM. This check compares
results, so that other changes of vLLM are noticed before users see them.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams

from service.common.aio import gather
from service.context import internal_request
from service.engine.contract import MAX_READ_IDS, Job, LabelQuery, Sampling
from service.engine.texts import Chat
from service.errors import ConfigurationError, DeadlineExceeded, EngineDead, InvalidRequest
from service.generation.conversation import Choice, Conversation
from service.generation.fold import TOP_LOGPROBS, Fold
from service.generation.served_model import ServedModel
from service.settings import section as platform
from service.settings.section import Platform
from service.vllm.stock import StockEngine, on_each_rank, read_parameters
from service.vllm.structured_outputs import choice

_log = logging.getLogger(__name__)

_TOKENS, _CALL_TOKENS, _DRAFTED_TOKENS = 6, 64, 48
_TRIES = 2
"""Times that two answers are compared: two steps of equal batches may round differently on GPUs."""
_CLOSE = 0.05
"""Difference of two log-probabilities that batches' rounding may cause."""
_PING = {"name": "ping", "description": "Say ping.", "parameters": {"type": "object"}}
_LABELS = (0, 1)
_PROMPT = [6, 7, 8]
_REPEATED = [2, 3, 4, 5] * 8
"""A prompt whose continuation is easy to draft."""

Work = Callable[[StockEngine, Sequence[int]], Awaitable[Any]]
"""One kind of work on an engine, for a prompt."""


class SelfCheckFailed(ConfigurationError):
    """Work that every client must support fails in this engine."""


async def differing(
    engine: StockEngine, prompt: Sequence[int], *, labels: bool = True
) -> list[str]:
    """The kinds of work, by name, whose results differ from those of the public client.

    Without `labels` label reads are skipped. Raises SelfCheckFailed for work that fails with the
    public client.
    """
    streamed = await checked("a stream", partial(_answer, engine.public, prompt))
    stop = streamed.partition("|")[0].strip()[1:2]
    kinds: dict[str, Work] = {
        "a stream": _answer,
        "a stop string": partial(_answer, stop=tuple(stop)),
        "a whole answer": partial(_answer, details=True),
    }
    if labels:
        kinds["a label read"] = _labels
    # At once, because the time is in the number of the engine's steps.
    agreed = await gather(_agrees(name, work, engine, prompt) for name, work in kinds.items())
    return [name for name, same in zip(kinds, agreed, strict=True) if not same]


async def _agrees(name: str, work: Work, engine: StockEngine, prompt: Sequence[int]) -> bool:
    """True if both clients have the same result; SelfCheckFailed if the work ends the engine."""
    for _ in range(_TRIES):
        wanted = await checked(name, partial(work, engine.public, prompt))
        try:
            if engine is engine.public or _alike(
                await checked(name, partial(work, engine, prompt)), wanted
            ):
                return True
        except SelfCheckFailed as error:
            if isinstance(error.__cause__, EngineDead):
                raise
            _log.warning("%s", error)
    return False


async def checked(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """The result of work that runs as a request of the service's own.

    Raises SelfCheckFailed, naming the work, if it fails.
    """
    try:
        async with internal_request("self-check", platform.installed().warm_up_s):
            return await work()
    except EngineDead as error:
        raise SelfCheckFailed(f"engine: self-check: {name} ends the engine") from error
    except Exception as error:
        raise SelfCheckFailed(
            f"engine: self-check: {name} fails: {type(error).__name__}: {error}"
        ) from error


async def _answer(
    client: StockEngine, prompt: Sequence[int], stop: Sequence[str] = (), *, details: bool = False
) -> str:
    """A generation whose steps are text alone, or with `details` have tokens."""
    sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, stop=stop)
    fold = Fold(details=details)
    await client.run(Job(list(prompt), sampling, id=_name(), cache_salt="self-check"), fold)
    (said,) = fold.whole()
    return f"{said.text}|{said.finish_reason}|{list(said.token_ids) if details else fold.tokens}"


async def _labels(client: StockEngine, prompt: Sequence[int]) -> Sequence[float]:
    """The log-probabilities of two labels."""
    query = LabelQuery(list(prompt), _LABELS, id=_name(), cache_salt="self-check")
    return (await client.logprobs(query)).logprobs


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(found == wanted)
    return len(found) == len(wanted) and all(
        math.isclose(one, other, abs_tol=_CLOSE) for one, other in zip(found, wanted, strict=True)
    )


def _name() -> str:
    return f"check-{uuid.uuid4().hex}"


async def check_calls(model: ServedModel) -> None:
    """Ask for a call of a tool, where calls can be read; raises SelfCheckFailed if it fails.

    If the model writes much before its first call, is slow, or has no room for a tool, this is only
    logged.
    """
    asked = [{"role": "user", "content": "ping"}]
    chat = Chat(asked, tools=[{"type": "function", "function": _PING}], tool_choice="required")
    sampling = Sampling(max_tokens=_CALL_TOKENS)

    async def choice() -> Choice | None:
        try:
            conversation = await Conversation.prepare(model, chat, sampling, None)
            (answered,), _ = await conversation.whole()
        except DeadlineExceeded:
            return None
        except InvalidRequest as error:
            if error.code == "context_length_exceeded":
                return None
            raise
        return answered

    name = "a call of a tool"
    answer: Choice | None = await checked(name, choice)
    if answer is not None and answer.said.calls and answer.said.calls[0].name == _PING["name"]:
        return
    if answer is not None and answer.finish_reason != "length":
        raise SelfCheckFailed(f"engine: self-check: {name} is not found in the answer")
    _log.info("self-check: no call of a tool in time, or within %d tokens", _CALL_TOKENS)


async def reads_labels(llm: Any) -> bool:
    """True if label reads work beside answers with drafted tokens; logs a warning if not.

    Tries it on each rank. vLLM 0.32's samplers of drafted tokens drop the log-probabilities of
    given tokens; V1's is repaired (`patches.rows`).
    """
    if llm.vllm_config.speculative_config is None:
        return True
    for generate in on_each_rank(llm):
        alone = await _read(generate)
        drafting = asyncio.create_task(_draft(generate))
        beside = [await _read(generate)]
        while not drafting.done():
            beside.append(await _read(generate))
        await drafting
        if not alone or not all(_alike(found, alone) for found in beside):
            _log.warning(
                "engine.speculative_config: this engine drops the log-probabilities of labels "
                "beside drafted tokens; classification is refused"
            )
            return False
    return True


async def _read(generate: Callable[..., Any]) -> list[float]:
    """The log-probabilities of the labels after a prompt; empty if the engine gives none."""
    prompt = {"prompt_token_ids": _PROMPT}
    found: list[float] = []
    async for output in generate(prompt, read_parameters(_LABELS), _name()):
        for places in output.outputs[0].logprobs or ():
            found = [places[label].logprob for label in _LABELS if label in places]
    return found if len(found) == len(_LABELS) else []


async def _draft(generate: Callable[..., Any]) -> None:
    params = _params(max_tokens=_DRAFTED_TOKENS, ignore_eos=True, temperature=0.0)
    async for _ in generate({"prompt_token_ids": _REPEATED}, params, _name()):
        pass


_SLOW_SECONDS = 1.0

_ROWS = (1, 2, 4, 8, 16, 32, 64, 65, 80)
"""Sizes of batches: up to 64 rows a row is split over a power of two of programs, beyond it is not;
Triton compiles multiples of 16 apart."""


async def warm_up(llm: Any, headers: Mapping[str, str] | None = None) -> None:
    """Make a request for each path of the platform that the engine has room for, one after another.

    The requests bypass admission control, which would count the time of compilation as the engine's
    speed. `headers` are those of untraced requests. Raises ConfigurationError if all together take
    longer than the platform's `warm_up_s`, and the errors of vLLM.
    """
    here = platform.installed()
    sequences: int = llm.vllm_config.scheduler_config.max_num_seqs
    logprobs: int = llm.model_config.max_logprobs
    for generate in on_each_rank(llm):
        try:
            async with asyncio.timeout(here.warm_up_s):
                for name, params in paths(here):
                    if params.n <= sequences and not 0 <= logprobs < (params.logprobs or 0):
                        await _take(generate, name, params, headers)
        except TimeoutError as error:
            raise ConfigurationError(
                f"engine: its first requests took more than {here.warm_up_s:g} s; its log says "
                "which"
            ) from error


async def _take(
    generate: Callable[..., Any], name: str, params: Any, headers: Mapping[str, str] | None
) -> None:
    started = time.monotonic()
    async for _ in generate(
        {"prompt_token_ids": _PROMPT}, params, f"warm-up {name}", trace_headers=headers
    ):
        pass
    if (seconds := time.monotonic() - started) > _SLOW_SECONDS:
        _log.info("warm-up: %s took %.1f s", name, seconds)


def paths(here: Platform) -> Iterator[tuple[str, Any]]:
    """A name and parameters for each path whose first use is slow.

    On GPUs vLLM's samplers are kernels that Triton compiles when they are first used. There is one
    for each power of two of the number of log-probabilities, another if that number plus one is a
    multiple of 16, and several for each of top-k and top-p, depending on the batch size
    (vllm.v1.sample.ops.topk_topp_triton).
    """
    yield "log-probabilities", _params(logprobs=TOP_LOGPROBS)
    yield "choice", _params(structured_outputs=choice(["yes", "no"]))
    yield "label read of 2", read_parameters(range(2))
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
        yield f"label read of {count}", read_parameters(range(count))


def _params(*, max_tokens: int = 2, **options: Any) -> Any:
    return SamplingParams(max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA, **options)
