"""A deterministic engine without weights, for fast tests and for trying a client."""

import asyncio
import hashlib
import itertools
import math
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from service.adapters.manifest import WEIGHTS_FILE
from service.context import current_context
from service.context.answer_guard import AnswerGuard
from service.context.kept import KeptGeneration
from service.engine.contract import Progress
from service.engine.protocol import (
    Adapter,
    AdapterUsage,
    ChatFrame,
    Chunk,
    ChunkSink,
    Delta,
    FinishReason,
    LabelLogprobs,
    Message,
    ModelInfo,
    Prompt,
    Result,
    Sampling,
    TokenLogprob,
    Vitals,
)
from service.engine.text_size import size_of, size_of_chat
from service.errors import (
    ConfigurationError,
    EngineDead,
    InvalidRequest,
    ServiceError,
    UnsupportedFeature,
)
from service.files import file_digest
from service.gate.gate import Gate
from service.gate.meter import StreamObserver
from service.gate.preparation import Preparation
from service.gate.stream import gated
from service.gate.ticket import Demand
from service.generation.held import HeldTexts
from service.quoting import quote
from service.settings.preparation import PreparationSettings

_WORDS = "the a one of and to in is it for on with as at by from this that be are was".split()
_VOCAB_SIZE = 256 + 3
_END = 258
_SPECIAL = {"<s>": 256, "<turn>": 257, "<end>": _END}
_FRAME = ChatFrame(before="<s><turn>user\n", after="<end><turn>")


class FakeEngine:
    """Tokens are UTF-8 bytes; answers are words drawn from a hash of the whole request.

    Has every role of `engine.protocol`. An adapter changes every answer, by the bytes of its
    weights file alone, so two versions of one adapter never agree. `token_seconds` paces
    the answers. JSON schemas and regular expressions need a real grammar engine and are refused.
    """

    def __init__(
        self,
        model: ModelInfo,
        gate: Gate,
        observer: StreamObserver,
        *,
        token_seconds: float = 0.0,
        preparation: PreparationSettings | None = None,
    ) -> None:
        self._model = model
        self._gate = gate
        self._observer = observer
        self._preparation = Preparation(gate, preparation or PreparationSettings())
        self._token_seconds = token_seconds
        self._adapters: dict[int, Adapter] = {}
        self._weights: dict[int, str] = {}
        self._last_step = time.monotonic()
        self._reads: Counter[int] = Counter()
        self._adapter_requests: Counter[int] = Counter()
        self.running = 0
        self.warm_ups = 0
        self.dead = False

    @property
    def model(self) -> ModelInfo:
        return self._model

    @property
    def chat_frame(self) -> ChatFrame:
        return _FRAME

    @property
    def start_token_ids(self) -> tuple[int, ...]:
        return (256,)

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        return (_END,)

    async def prepare(self, size: int, work: Callable[[], Result]) -> Result:
        return await self._preparation.run(size, work)

    async def prepare_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        return await self._preparation.run_prompt(size, work)

    async def render(self, text: str) -> Prompt:
        return await self._preparation.run_prompt(
            size_of(text), lambda: self._fitting([256, *self.encode(text)])
        )

    async def render_chat(self, messages: Sequence[Message]) -> Prompt:
        def render() -> Prompt:
            turns = [[257, *self.encode(f"{m.role}\n{m.content}"), _END] for m in messages]
            return self._fitting([256, *(token for turn in turns for token in turn), 257])

        return await self._preparation.run_prompt(size_of_chat(messages), render)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_template(self, text: str) -> list[int]:
        parts = re.split(f"({'|'.join(_SPECIAL)})", text)
        pieces = ([_SPECIAL[part]] if part in _SPECIAL else self.encode(part) for part in parts)
        return list(itertools.chain.from_iterable(pieces))

    def decode(self, token_ids: Sequence[int]) -> str:
        for token_id in token_ids:
            if not 0 <= token_id < _VOCAB_SIZE:
                raise InvalidRequest(
                    f"tokens: ids are 0..{_VOCAB_SIZE - 1}, got {quote(token_id)}", param="tokens"
                )
        return bytes(t for t in token_ids if t < 256).decode(errors="replace")

    def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: Adapter | None
    ) -> AsyncGenerator[Chunk, None]:
        if sampling.structure and sampling.structure.choice is None:
            raise UnsupportedFeature("response_format: this engine serves text and choice only")
        request = _FakeGeneration(self, prompt, sampling, adapter)
        chunks = gated(self._gate, self._observer, request)
        guard = current_context().answer_guard
        return chunks if guard is None else _guarded(chunks, guard, sampling)

    async def push(
        self, prompt: Prompt, sampling: Sampling, adapter: Adapter | None, sink: ChunkSink
    ) -> None:
        async with aclosing(self.generate(prompt, sampling, adapter)) as chunks:
            async for chunk in chunks:
                sink.take(chunk)

    async def repeat(
        self, prompt: Sequence[int], parameters: object, adapter: Adapter | None
    ) -> None:
        assert isinstance(parameters, Sampling)
        async with aclosing(self.generate(Prompt(list(prompt)), parameters, adapter)) as chunks:
            async for _ in chunks:
                pass

    async def label_logprobs(
        self, prompt: Prompt, token_ids: Sequence[int], adapter: Adapter | None
    ) -> LabelLogprobs:
        draws = random.Random(_draw(prompt, self.weights(adapter), "label"))
        logits = [draws.random() * 8 for _ in range(_VOCAB_SIZE)]
        total = math.log(sum(math.exp(logit) for logit in logits))
        read = _FakeGeneration(self, prompt, Sampling(max_tokens=1), adapter)
        async for _ in gated(self._gate, self._observer, read):
            pass
        logprobs = [logits[token_id] - total for token_id in token_ids]
        return LabelLogprobs(logprobs, prompt_tokens=len(prompt.token_ids), cached_tokens=0)

    async def load_adapter(self, adapter: Adapter) -> None:
        other = self._adapters.setdefault(adapter.engine_id, adapter)
        if other != adapter:
            raise ConfigurationError(f"adapter {adapter.name!r}: its id belongs to {other.name!r}")
        try:
            self.weights(adapter)
        except OSError as error:
            raise ConfigurationError(f"adapter {adapter.name!r}: {error.strerror}") from error

    async def unload_adapter(self, adapter: Adapter) -> None:
        self._weights.pop(adapter.engine_id, None)
        del self._reads[adapter.engine_id], self._adapter_requests[adapter.engine_id]

    async def resident_adapters(self) -> frozenset[int]:
        return frozenset(self._weights)

    async def adapter_usage(self) -> Mapping[int, AdapterUsage]:
        return {
            key: AdapterUsage(self._adapter_requests[key], reads - 1, 0.0)
            for key, reads in self._reads.items()
        }

    def evict_adapter(self, adapter: Adapter) -> None:
        """Drop its weights, as an engine with too few slots does."""
        del self._weights[adapter.engine_id]

    def answered(self, adapter: Adapter | None) -> None:
        """A request has got its first token."""
        if adapter is not None:
            self._adapter_requests[adapter.engine_id] += 1

    def weights(self, adapter: Adapter | None) -> str:
        """Stand-in for an adapter's weights, loaded when a request needs them."""
        if adapter is None:
            return ""
        if adapter.engine_id not in self._weights:
            self._weights[adapter.engine_id] = file_digest(Path(adapter.path) / WEIGHTS_FILE)
            self._reads[adapter.engine_id] += 1
        return self._weights[adapter.engine_id]

    async def warm_up(self) -> None:
        self.warm_ups += 1
        await self.pause()

    async def check(self) -> None:
        if self.dead:
            raise EngineDead("The engine has ended.", retry_after=5)

    async def stop(self) -> None:
        self.dead = True
        self._preparation.stop()

    @property
    def last_step(self) -> float:
        return self._last_step

    def vitals(self) -> Vitals | None:
        return None

    async def probe(self) -> None:
        await self.pause()

    async def pause(self) -> None:
        """Take the time of one token."""
        await asyncio.sleep(self._token_seconds)
        await self.check()
        self._last_step = time.monotonic()

    def _fitting(self, token_ids: list[int]) -> Prompt:
        limit = self._model.max_model_len
        if len(token_ids) > limit:
            raise InvalidRequest(
                f"prompt: {len(token_ids)} tokens, at most {limit} fit the model's context",
                param="prompt",
            )
        return Prompt(token_ids)


class _FakeGeneration:
    """One generation request to the fake engine."""

    def __init__(
        self, engine: FakeEngine, prompt: Prompt, sampling: Sampling, adapter: Adapter | None
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._sampling = sampling
        self._adapter = adapter
        self._weights = engine.weights(adapter)
        self.demand = Demand(len(prompt.token_ids), sampling.max_tokens, sampling.n)
        kept, repeatable = current_context().kept, not sampling.temperature or sampling.seed
        self._kept = None
        if isinstance(kept, KeptGeneration):
            began = kept.ask(prompt.token_ids, sampling, repeatable=bool(repeatable))
            self._kept = kept if began else None

    async def start(self) -> AsyncGenerator[Chunk, None]:
        answers = [self._answer(index) for index in range(self._sampling.n)]
        self._engine.running += 1
        try:
            for step in range(max(len(answer) for answer in answers)):
                await self._engine.pause()
                if step == 0:
                    self._engine.answered(self._adapter)
                deltas = [answer[step] for answer in answers if step < len(answer)]
                yield Chunk(deltas, prompt_tokens=len(self._prompt.token_ids), cached_tokens=0)
        finally:
            self._engine.running -= 1

    def progress(self, item: Chunk) -> Progress:
        new = sum(delta.tokens for delta in item.deltas)
        for delta in item.deltas:
            if self._kept is not None and delta.index == 0:
                self._kept.tokens += self._engine.encode(delta.text)
        return Progress(item.prompt_tokens, item.cached_tokens, new)

    def explain(self, error: Exception) -> ServiceError | None:
        return None

    def _answer(self, index: int) -> list[Delta]:
        words = self._words(index)
        text, reason = "".join(words), self._reason(words)
        cut = min((text.find(stop) for stop in self._sampling.stop if stop in text), default=None)
        if cut is not None:
            text, reason = text[:cut], "stop"
        ends = list(itertools.accumulate(map(len, words)))
        pieces = [text[end - len(word) : end] for word, end in zip(words, ends, strict=True)]
        last = max((place for place, piece in enumerate(pieces) if piece), default=0)
        return [
            Delta(index, piece, 1, reason if place == last else None, self._logprobs(index, place))
            for place, piece in enumerate(pieces[: last + 1])
        ]

    def _words(self, index: int) -> list[str]:
        seed = self._sampling.seed if self._sampling.temperature else "greedy"
        draws = [
            _draw(self._prompt, self._weights, seed, 0 if seed == "greedy" else index, place)
            for place in range(self._sampling.max_tokens)
        ]
        if self._sampling.structure:
            choice = self._sampling.structure.choice or ()
            return [choice[int(draws[0] * len(choice))]]
        words = [" " + _WORDS[int(draw * len(_WORDS))] for draw in draws]
        natural = 1 + int(_draw(self._prompt, self._weights, "length") * 64)
        return words[:natural]

    def _reason(self, words: list[str]) -> FinishReason:
        full = len(words) == self._sampling.max_tokens and not self._sampling.structure
        return "length" if full else "stop"

    def _logprobs(self, index: int, place: int) -> list[TokenLogprob]:
        if self._sampling.logprobs is None:
            return []
        best = 0.5 + 0.4 * _draw(self._prompt, self._weights, index, place)
        others = [(1 - best) / 2**rank for rank in range(1, self._sampling.logprobs)]
        top = [math.log(probability) for probability in (best, *others)]
        return [TokenLogprob(top[0], top)]


async def _guarded(
    chunks: AsyncGenerator[Chunk, None], guard: AnswerGuard, sampling: Sampling
) -> AsyncGenerator[Chunk, None]:
    """The chunks, put together into such whose text a guard has read."""
    tokens, structured = sampling.logprobs is not None, sampling.structure is not None
    texts, held = HeldTexts(guard, tokens=tokens, structured=structured), list[Delta]()
    async with aclosing(chunks):
        async for chunk in chunks:
            for delta in chunk.deltas:
                texts.add(delta.index, delta.text, ended=delta.finish_reason is not None)
                held.append(replace(delta, text=""))
            if texts.ready:
                for index, text in (await texts.released()).items():
                    last = max(at for at, delta in enumerate(held) if delta.index == index)
                    held[last] = replace(held[last], text=text)
                yield replace(chunk, deltas=held)
                held = []


def _draw(prompt: Prompt, weights: str, *parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    key = repr((prompt.token_ids, weights, parts)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest()) / (1 << 56)
