"""A check before the service is ready: runs each kind of work once, also by the public client.

The choice of the fast client compares names and signatures. This check compares results, so that a
change which no field and no signature shows is noticed before any user sees it.
"""

import asyncio
import itertools
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams

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

_TOKENS, _CALL_TOKENS = 6, 64
_TRIES = 2
"""Times that two answers are compared: two steps of equal batches may round differently on GPUs."""
_CLOSE = 0.05
"""Difference of two log-probabilities that batches' rounding may cause."""
_PING = {"name": "ping", "description": "Say ping.", "parameters": {"type": "object"}}


class SelfCheckFailed(ConfigurationError):
    """Work that every client must be able to do fails in this engine."""


async def differing(
    engine: StockEngine, prompt: Sequence[int], *, labels: bool = True
) -> list[str]:
    """The kinds of work whose results differ from those of the public client, by name.

    Without `labels` label reads are left out. Raises SelfCheckFailed for work that the public
    client cannot do.
    """
    asked = _Asked(prompt)
    kinds: dict[str, Callable[[StockEngine], Awaitable[Any]]] = {
        "a stream": asked.streamed,
        "a stop string": lambda client: asked.streamed(client, stops),
        "a whole answer": asked.whole,
    }
    if labels:
        kinds["a label read"] = asked.read
    found, stops = [], list[str]()
    for name, work in kinds.items():
        for _ in range(_TRIES):
            wanted = await checked(name, partial(work, engine.public))
            if engine is engine.public or await _does(name, partial(work, engine), wanted):
                break
        else:
            found.append(name)
        if name == "a stream":
            stops += wanted.partition("|")[0].strip()[1:2]
    return found


async def _does(name: str, work: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    """True if the work's result is `wanted`; SelfCheckFailed if it ends the engine."""
    try:
        return _alike(await checked(name, work), wanted)
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


async def check_calls(model: ServedModel) -> None:
    """Ask for a call of a tool, where calls can be read; raises SelfCheckFailed if it fails.

    A model that writes much before its first call, is slow, or has no room for a tool is only told
    of in the log.
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
            if error.code != "context_length_exceeded":
                raise
            return None
        return answered

    name = "a call of a tool"
    answer: Choice | None = await checked(name, choice)
    if answer is not None and answer.said.calls and answer.said.calls[0].name == _PING["name"]:
        return
    if answer is not None and answer.finish_reason != "length":
        raise SelfCheckFailed(f"engine: self-check: {name} is not found in the answer")
    _log.info("self-check: no call of a tool in time, or within %d tokens", _CALL_TOKENS)


class _Asked:
    """The kinds of work that both clients do, on one prompt."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._prompt = list(prompt)
        self._serial = itertools.count()

    async def streamed(self, client: StockEngine, stops: Sequence[str] = ()) -> str:
        """The result of a generation whose steps between the first and the last are text alone."""
        fold = await self._folded(client, Fold(), stops)
        (said,) = fold.whole()
        return f"{said.text}|{said.finish_reason}|{fold.tokens}"

    async def whole(self, client: StockEngine) -> str:
        """The result of a generation with tokens in each step."""
        (said,) = (await self._folded(client, Fold(details=True))).whole()
        return f"{said.text}|{said.finish_reason}|{list(said.token_ids)}"

    async def read(self, client: StockEngine) -> Sequence[float]:
        """The log-probabilities of two labels."""
        query = LabelQuery(self._prompt, (0, 1), id=self._name(), cache_salt="self-check")
        return (await client.logprobs(query)).logprobs

    async def _folded(self, client: StockEngine, fold: Fold, stops: Sequence[str] = ()) -> Fold:
        sampling = Sampling(max_tokens=_TOKENS, temperature=0.0, ignore_eos=True, stop=tuple(stops))
        job = Job(self._prompt, sampling, id=self._name(), cache_salt="self-check")
        await client.run(job, fold)
        return fold

    def _name(self) -> str:
        return f"self-check-{next(self._serial)}"


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(found == wanted)
    return len(found) == len(wanted) and all(
        math.isclose(one, other, abs_tol=_CLOSE) for one, other in zip(found, wanted, strict=True)
    )


_LABELS = (0, 1)
_REPEATED = [2, 3, 4, 5] * 8
"""A prompt whose continuation is easy to draft."""
_DRAFTED_TOKENS = 48
_CLOSE_BESIDE_DRAFTS = 0.02
"""Largest difference of a log-probability that the size of a batch may make (bfloat16)."""


async def reads_labels(llm: Any) -> bool:
    """True if label reads work beside answers with drafted tokens; logs a warning if not.

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
        found is not None
        and max(abs(a - b) for a, b in zip(alone, found, strict=True)) < _CLOSE_BESIDE_DRAFTS
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
    async for _ in llm.generate(
        prompt, _params(max_tokens=_DRAFTED_TOKENS, ignore_eos=True, temperature=0.0), _name()
    ):
        pass


def _name() -> str:
    return f"check-{uuid.uuid4().hex}"


_SLOW_SECONDS = 1.0

_ROWS = (1, 2, 4, 8, 16, 32, 64, 65, 80)
"""Sizes of batches: up to 64 rows a row is split over a power of two of programs, beyond it is not;
Triton compiles multiples of 16 apart."""


async def warm_up(llm: Any, headers: Mapping[str, str] | None = None) -> None:
    """Make a request for each path of the platform that the engine has room for, one after another.

    The requests bypass the gate, which would count the time of compilation as the engine's speed.
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
