"""A deterministic engine without weights, on which every route runs."""

import asyncio
import hashlib
import itertools
import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.adapters.manifest import WEIGHTS_FILE
from service.admission.admitted import StreamObserver
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.common.error_messages import quote
from service.common.files import file_digest
from service.engine.contract import (
    Adapter,
    AdapterUsage,
    Job,
    LabelLogprobs,
    LabelQuery,
    ModelInfo,
    Output,
    Part,
    Pooled,
    PoolQuery,
    Sampling,
    Sink,
    Structure,
    Structures,
    Vitals,
)
from service.engine.texts import (
    Chat,
    ChatFrame,
    Message,
    PreparedChat,
    Reading,
    Said,
    ToolCall,
    size_of,
)
from service.errors import ConfigurationError, EngineDead, InvalidRequest, UnsupportedFeature
from service.generation.served_model import ServedModel
from service.settings.admission import PreparationSettings

_WORDS = "the a one of and to in is it for on with as at by from this that be are was".split()
_VOCAB_SIZE = 256 + 3
_END = 258
_SPECIAL = {"<s>": 256, "<turn>": 257, "<end>": _END}
_CALL = re.compile(r"<call>(.*)</call>")


class FakeEngine:
    """Tokens are words of an answer that is drawn from a hash of the whole request.

    Implements `engine.contract.LanguageEngine`. An adapter changes every answer depending only on
    the bytes of its weights, so two versions of one adapter never agree. `token_seconds` is the
    time per token.
    """

    def __init__(self, model: ModelInfo, *, token_seconds: float = 0.0) -> None:
        self.model = model
        self._token_seconds = token_seconds
        self._adapters: dict[int, Adapter] = {}
        self._weights: dict[int, str] = {}
        self.last_step = time.monotonic()
        self._reads: Counter[int] = Counter()
        self._adapter_requests: Counter[int] = Counter()
        self.running = 0
        self.warm_ups = 0
        self.dead = False

    async def run(self, job: Job, sink: Sink) -> None:
        weights, cut = self.weights(job.adapter), asyncio.Event()
        job.end = cut.set
        answers = [_answer(job, weights, index) for index in range(job.sampling.n)]
        self.running += 1
        try:
            for step in range(max(map(len, answers))):
                await self.pause()
                if step == 0:
                    self._count(job.adapter)
                parts = [answer[step] for answer in answers if step < len(answer)]
                if cut.is_set():
                    parts = [replace(part, finish_reason="length") for part in parts]
                told = _prompt_logprobs(job) if step == 0 else None
                sink.take(Output(parts, len(job.prompt), prompt_logprobs=told))
                if cut.is_set():
                    return
        finally:
            self.running -= 1

    async def logprobs(self, query: LabelQuery) -> LabelLogprobs:
        draws = random.Random(_draw(query.prompt, self.weights(query.adapter), "label"))
        logits = [draws.random() * 8 for _ in range(_VOCAB_SIZE)]
        total = math.log(sum(math.exp(logit) for logit in logits))
        self.running += 1
        try:
            await self.pause()
        finally:
            self.running -= 1
        self._count(query.adapter)
        read = [logits[token_id] - total for token_id in query.token_ids]
        likeliest = max(range(_VOCAB_SIZE), key=logits.__getitem__)
        return LabelLogprobs(read, likeliest, prompt_tokens=len(query.prompt), cached_tokens=0)

    async def pool(self, query: PoolQuery) -> Pooled:
        raise UnsupportedFeature("This engine reads no passages.")

    async def load(self, adapter: Adapter) -> None:
        other = self._adapters.setdefault(adapter.engine_id, adapter)
        if other != adapter:
            raise ConfigurationError(f"adapter {adapter.name!r}: its id belongs to {other.name!r}")
        try:
            self.weights(adapter)
        except OSError as error:
            raise ConfigurationError(f"adapter {adapter.name!r}: {error.strerror}") from error

    async def unload(self, adapter: Adapter) -> None:
        self._weights.pop(adapter.engine_id, None)
        del self._reads[adapter.engine_id], self._adapter_requests[adapter.engine_id]

    async def resident(self) -> frozenset[int]:
        return frozenset(self._weights)

    async def adapters(self) -> Mapping[int, AdapterUsage]:
        return {
            key: AdapterUsage(self._adapter_requests[key], reads - 1, 0.0)
            for key, reads in self._reads.items()
        }

    def evict_adapter(self, adapter: Adapter) -> None:
        """Drop its weights, as an engine with too few slots does."""
        del self._weights[adapter.engine_id]

    def weights(self, adapter: Adapter | None) -> str:
        """Stand-in for an adapter's weights, loaded when a request needs them."""
        if adapter is None:
            return ""
        if adapter.engine_id not in self._weights:
            self._weights[adapter.engine_id] = file_digest(Path(adapter.path) / WEIGHTS_FILE)
            self._reads[adapter.engine_id] += 1
        return self._weights[adapter.engine_id]

    def _count(self, adapter: Adapter | None) -> None:
        if adapter is not None:
            self._adapter_requests[adapter.engine_id] += 1

    async def warm_up(self) -> None:
        self.warm_ups += 1
        await self.pause()

    async def check(self) -> None:
        if self.dead:
            raise EngineDead("The engine has ended.", retry_after=5)

    async def stop(self) -> None:
        self.dead = True

    def vitals(self) -> Vitals | None:
        return None

    async def probe(self) -> None:
        await self.pause()

    async def pause(self) -> None:
        """Take the time of one token."""
        await asyncio.sleep(self._token_seconds)
        await self.check()
        self.last_step = time.monotonic()


@dataclass(frozen=True, slots=True)
class FakeLikely:
    """Implements `engine.contract.Likely`."""

    logprob: float
    decoded_token: str | None


def _answer(job: Job, weights: str, index: int) -> list[Part]:
    """The parts of one answer, a word each."""
    sampling = job.sampling
    words = _words(job, weights, index)
    full = len(words) == sampling.max_tokens and not sampling.structure
    text, reason, stopped = "".join(words), "length" if full else "stop", None
    for stop in sampling.stop:
        if stop in text and (stopped is None or text.find(stop) < text.find(stopped)):
            stopped = stop
    if stopped is not None:
        text, reason = text[: text.find(stopped)], "stop"
    ends = list(itertools.accumulate(map(len, words)))
    pieces = [text[end - len(word) : end] for word, end in zip(words, ends, strict=True)]
    last = max((place for place, piece in enumerate(pieces) if piece), default=0)
    return [
        Part(
            index,
            piece,
            [place % 256],
            reason if place == last else None,
            stopped if place == last else None,
            _logprobs(job, weights, index, place, piece),
        )
        for place, piece in enumerate(pieces[: last + 1])
    ]


def _words(job: Job, weights: str, index: int) -> list[str]:
    sampling = job.sampling
    greedy = not sampling.temperature
    seed = "greedy" if greedy else sampling.seed
    most = sampling.max_tokens or 1
    draws = [
        _draw(job.prompt, weights, seed, 0 if greedy else index, place) for place in range(most)
    ]
    if sampling.structure:
        choice = sampling.structure.choice or ()
        return [choice[int(draws[0] * len(choice))]]
    words = [" " + _WORDS[int(draw * len(_WORDS))] for draw in draws]
    natural = 1 + int(_draw(job.prompt, weights, "length") * 64)
    return words[: most if sampling.ignore_eos else natural]


def _logprobs(
    job: Job, weights: str, index: int, place: int, piece: str
) -> list[Mapping[int, FakeLikely]] | None:
    asked = job.sampling.logprobs
    if asked is None:
        return None
    best = 0.5 + 0.4 * _draw(job.prompt, weights, index, place)
    others = [(1 - best) / 2**rank for rank in range(1, asked)]
    own = {place % 256: FakeLikely(math.log(best), piece)}
    return [own | {1000 + n: FakeLikely(math.log(p), f"?{n}") for n, p in enumerate(others)}]


def _prompt_logprobs(job: Job) -> list[Mapping[int, FakeLikely] | None] | None:
    if job.sampling.prompt_logprobs is None:
        return None
    places = [{each: FakeLikely(-1.0, chr(each))} for each in job.prompt[1:]]
    return [None, *places]


def _draw(prompt: Sequence[int], weights: str, *parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    key = repr((list(prompt), weights, parts)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest()) / (1 << 56)


class FakeTexts:
    """Tokens of texts are UTF-8 bytes; implements `engine.contract.Texts`."""

    chat_frame = ChatFrame(before="<s><turn>user\n", after="<end><turn>")
    start_token_ids: tuple[int, ...] = (256,)
    end_token_ids: tuple[int, ...] = (_END,)

    def __init__(self, max_model_len: int) -> None:
        self._longest = max_model_len

    def encode(self, text: str) -> list[int]:
        return list(text.encode(errors="surrogatepass"))

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

    def render(self, prompt: str | Sequence[int], reading: Reading) -> list[int]:
        if isinstance(prompt, str):
            start = [256] if reading.add_special_tokens else []
            return self.fitting([*start, *self.encode(prompt)])
        self.decode(prompt)
        return self.fitting(list(prompt))

    def render_chat(self, messages: Sequence[Message]) -> list[int]:
        turns = [[257, *self.encode(f"{m.role}\n{m.content}"), _END] for m in messages]
        return self.fitting([256, *(token for turn in turns for token in turn), 257])

    def fitting(self, token_ids: list[int]) -> list[int]:
        """The tokens; InvalidRequest for more than the context."""
        if len(token_ids) > self._longest:
            raise InvalidRequest(
                f"prompt: {len(token_ids)} tokens, at most {self._longest} fit the model's context",
                code="context_length_exceeded",
                param="prompt",
            )
        return token_ids


class FakeChats:
    """Each message is a turn; an answer that must contain a tool call is only that call."""

    calls_tools = True
    reads_documents = False

    def __init__(self, texts: FakeTexts, preparation: Preparation) -> None:
        self._texts = texts
        self._preparation = preparation

    async def prepare(self, chat: Chat, sampling: Sampling) -> PreparedChat:
        said = [Message(str(each["role"]), _text_of(each)) for each in chat.messages]
        size = sum(size_of(each.content) for each in said)
        prompt = await self._preparation.run(size, lambda: self._texts.render_chat(said))
        demanded = _demanded(chat)
        if demanded is not None:
            sampling = replace(sampling, structure=Structure(choice=(demanded,)))
        parser = _FakeParser if chat.offers_tools else None
        return PreparedChat(prompt, sampling, parser)


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def _demanded(chat: Chat) -> str | None:
    """The call that an answer must be, in the model's own form."""
    if not chat.offers_tools or chat.tool_choice == "auto":
        return None
    named = chat.tool_choice.removeprefix("function:")
    name = chat.tools[0]["function"]["name"] if named == "required" else named
    return f"<call>{json.dumps({'name': name, 'arguments': {}})}</call>"


class _FakeParser:
    """Implements `engine.texts.AnswerParser`; a call comes in one part."""

    def whole(self, text: str, token_ids: Sequence[int]) -> Said:
        if (found := _CALL.fullmatch(text)) is None:
            return Said(text)
        call = json.loads(found[1])
        return Said("", None, [ToolCall("call-1", call["name"], json.dumps(call["arguments"]))])

    def delta(self, text: str, token_ids: Sequence[int], *, last: bool) -> dict[str, Any] | None:
        said = self.whole(text, token_ids)
        if not said.calls:
            return {"content": text}
        function = {"name": said.calls[0].name, "arguments": said.calls[0].arguments}
        call = {"id": said.calls[0].id, "type": "function", "index": 0, "function": function}
        return {"tool_calls": [call]}

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        return 0


class FakeStructures:
    """Supports only `choice`: schemas and regular expressions need a real grammar engine."""

    @asynccontextmanager
    async def compiled(self, sampling: Sampling) -> AsyncIterator[Sampling]:
        if sampling.structure and sampling.structure.choice is None:
            raise UnsupportedFeature("response_format: this engine serves text and choice only")
        yield sampling

    def stop(self) -> None: ...


class FakeModel(ServedModel):
    """A fake engine as the service serves it; `raw` is the engine itself."""

    def __init__(
        self,
        engine: FakeEngine,
        admission: AdmissionController,
        observer: StreamObserver,
        preparation: PreparationSettings | None = None,
        structures: Structures | None = None,
    ) -> None:
        turns = Preparation(admission, preparation or PreparationSettings())
        texts = FakeTexts(engine.model.max_model_len)
        chats = FakeChats(texts, turns)
        structures = structures or FakeStructures()
        super().__init__(engine, texts, chats, structures, admission, observer, turns)
        self.raw = engine
