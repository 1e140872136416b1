"""A deterministic encoder without weights, for fast tests."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from service.admission.admitted import Admitted
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.engine.contract import Pooled, PoolQuery, Vitals
from service.engine.pooling import EncoderInfo, EncoderTask, Passage
from service.engine.texts import size_of
from service.errors import ConfigurationError, EngineDead, InvalidRequest
from service.settings.admission import PreparationSettings
from service.settings.encoders import EncoderSettings
from service.telemetry.metrics import Metrics

CAPACITY = 4
MAX_MODEL_LEN = 64
WIDTH = 8
LABELS = ("sports", "politics", "weather")
VERDICTS = ("contradiction", "neutral", "entailment")
_BEGIN, _END = 256, 257


class FakeEncoder:
    """Tokens are UTF-8 bytes between two special ones; values are drawn from a hash of them.

    Has every role of `engine.pooling`. While `frozen` it pools nothing.
    """

    def __init__(
        self,
        info: EncoderInfo,
        admission: AdmissionController,
        metrics: Metrics,
        preparation: PreparationSettings,
    ) -> None:
        self.info = info
        self.admission = admission
        self._metrics = metrics
        engine: Any = _Engine(self)  # of which only passages are asked
        self._admitted = Admitted(engine, admission, metrics)
        self._preparation = Preparation(admission, preparation)
        self.last_step = time.monotonic()
        self.frozen = False
        self.dead = False
        self.running = 0

    async def read(
        self, text: str, second: str | None = None, *, most: int | None = None
    ) -> Passage:
        size = size_of(text) + size_of(second or "")
        work = partial(self._read, text, second, most)
        return await self._preparation.run_prompt(size, work)

    def _read(self, text: str, second: str | None, most: int | None) -> Passage:
        ids = [_BEGIN, *text.encode(), _END]
        at = None if second is None else len(ids)
        ids += [] if second is None else [*second.encode(), _END]
        if len(ids) <= (MAX_MODEL_LEN if most is None else most):
            return Passage(ids, at)
        if most is None:
            raise InvalidRequest(f"{len(ids)} tokens", code="context_length_exceeded")
        self._metrics.text_cut(self.info.name)
        return Passage(ids[:most], at, cut=True)

    def passage(self, token_ids: Sequence[int], *, most: int | None = None) -> Passage:
        if any(not 0 <= token <= _END for token in token_ids):
            raise InvalidRequest(f"token ids are 0..{_END}")
        return Passage(list(token_ids[:most]))

    async def pool(
        self, passage: Passage, dimensions: int | None = None, *, raw: bool = False
    ) -> Pooled:
        if dimensions is not None and self.info.dimensions is None:
            raise InvalidRequest("dimensions must be unset")  # as vLLM says
        query = PoolQuery(passage.token_ids, None)
        pooled = await self._admitted.pool(query)
        values = pooled.values[:dimensions]
        if self.info.task == "embed" and not raw:
            values = values / np.linalg.norm(values)
        if self.info.task == "score" and not raw:
            values = (1 / (1 + np.exp(-values))).astype(np.float32)
        return Pooled(values, len(passage.token_ids), 0)

    def vitals(self) -> Vitals | None:
        return None

    async def probe(self) -> None:
        while self.frozen:  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.001)
        self.last_step = time.monotonic()

    async def check(self) -> None:
        if self.dead:
            raise EngineDead("The engine has ended.", retry_after=5)

    async def warm_up(self) -> None:
        await self.probe()

    async def stop(self) -> None:
        self._preparation.stop()


class _Engine:
    """The engine that the encoder's passages are admitted to."""

    def __init__(self, encoder: FakeEncoder) -> None:
        self._encoder = encoder

    async def pool(self, query: PoolQuery) -> Pooled:
        self._encoder.running += 1
        try:
            await self._encoder.probe()
            return Pooled(self._values(query), len(query.prompt), 0)
        finally:
            self._encoder.running -= 1

    def _values(self, query: PoolQuery) -> "np.typing.NDArray[np.float32]":
        seed = hashlib.sha256(repr(list(query.prompt)).encode())
        generator = np.random.default_rng(int.from_bytes(seed.digest()[:8], "big"))
        return generator.standard_normal(self._encoder.info.width).astype(np.float32)


async def start_fake_encoder(
    encoder: EncoderSettings,
    admission: AdmissionController,
    metrics: Metrics,
    preparation: PreparationSettings,
) -> FakeEncoder:
    """An encoder whose task is its name's beginning; one named `broken` cannot start."""
    if encoder.name.startswith("broken"):
        raise ConfigurationError(f"encoder {encoder.name}: it is broken")
    task = next(task for task in _WIDTHS if encoder.name.startswith(task))
    admission.capacity = encoder.max_in_flight or CAPACITY
    info = EncoderInfo(
        encoder.name,
        "sha256:fake",
        task,
        MAX_MODEL_LEN,
        CAPACITY,
        _WIDTHS[task],
        labels=_labels(encoder.name) if task == "classify" else (),
        multi_label=encoder.name.endswith("-multi"),
        dimensions=(2, 4) if encoder.name.endswith("-short") else None,
        truncate=encoder.truncate,
        prompts=encoder.prompts or {},
    )
    return FakeEncoder(info, admission, metrics, preparation)


def _labels(name: str) -> tuple[str, ...]:
    return VERDICTS if name.endswith("-nli") else LABELS


_WIDTHS: dict[EncoderTask, int] = {"embed": WIDTH, "score": 1, "classify": len(LABELS)}
