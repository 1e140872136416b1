"""An adapter's answers from the served engine, vLLM behind the gate, to ordinary requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from tqdm import tqdm

from service.adapters.questions import greedy, patiently
from service.classification.adapter_frame import AdapterFrame
from service.classification.calibration import Array
from service.classification.head import HeadClassifier, answer_rows
from service.common.aio import together
from service.context import internal_request
from service.engine.pooling import EncoderEngine, Pooler
from service.engine.protocol import Adapter, Reader
from service.engine.roles import LanguageModel, TextEngine
from service.generation.text import Answer, collect
from service.settings.encoders import EncoderSettings
from service.settings.gate import GateSettings
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from training.config import FinetuneSettings
from training.lines import CompletedLine

_RANKS = (8, 16, 32, 64, 128, 256)
"""vLLM's choices of `max_lora_rank` up to this service's largest."""
_SECONDS = 6 * 3600.0
_PATIENT = GateSettings(max_wait_ms=int(_SECONDS * 1000), target_token_ms=None)
"""Batch work: no user waits for a first token, so refuse no request and keep the limit up."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def engine_settings(settings: FinetuneSettings) -> Settings:
    """The service's settings under which an adapter of this run is measured."""
    lora = {"max_lora_rank": next(rank for rank in _RANKS if rank >= settings.lora.rank)}
    return Settings(model=settings.base, engine=lora | settings.evaluation.engine, gate=_PATIENT)


@asynccontextmanager
async def engine_of(settings: FinetuneSettings) -> AsyncIterator[LanguageModel]:
    """Start vLLM for the run's base and stop it; ConfigurationError if it cannot start."""
    from service.runtime.running import running
    from service.vllm.start import for_one_adapter, start_vllm

    async with running(for_one_adapter(engine_settings(settings)), start_vllm) as parts:
        yield parts.engine


@asynccontextmanager
async def encoder_of(settings: FinetuneSettings, folder: Path) -> AsyncIterator[EncoderEngine]:
    """Start vLLM for an encoder with its head and stop it; ConfigurationError if it cannot start.

    A head that has its manifest is proven.
    """
    from service.runtime.running import running_encoders
    from service.vllm.cpu.forkserver import begin_seed
    from service.vllm.start import VllmEngines

    encoder = EncoderSettings(name=settings.name, path=folder, engine=settings.evaluation.engine)
    alone = Settings(encoders=(encoder,), gate=_PATIENT)
    begin_seed(alone)
    start, metrics = VllmEngines(alone).start_encoder, Metrics(CollectorRegistry())
    async with running_encoders(alone, start, metrics) as encoders:
        yield encoders.running[0].engine


async def head_scores(engine: Pooler, texts: Sequence[str]) -> Array:
    """Log P of every answer, uncalibrated: (texts, questions, answers) as `label_scores`."""
    classifier, most = HeadClassifier(engine), engine.info.max_num_seqs
    slots = asyncio.Semaphore(most)

    async def ask(text: str) -> Array:
        pooled = await classifier.ask(text, slots)
        return answer_rows(pooled.values, multi_label=classifier.multi_label)

    return np.stack(await _all(most, texts, ask, engine.info.name))


async def label_scores(
    engine: Reader, frame: AdapterFrame, texts: Sequence[str], adapter: Adapter | None
) -> Array:
    """Log P of every alternative of every question, uncalibrated: (texts, questions, labels)."""
    # Each text makes its reads one by one, so ask as many texts at once as the engine runs.
    most = engine.model.max_num_seqs
    slots = asyncio.Semaphore(most)

    async def ask(text: str) -> Array:
        scores = await together(
            question.scorer.score(engine, frame.prompt(text, question), adapter, slots)
            for question in frame.questions
        )
        return np.stack([score.log_probs for score in scores])

    return np.stack(await _all(most, texts, ask, _whose(adapter)))


async def written_answers(
    engine: TextEngine, lines: Sequence[CompletedLine], max_tokens: int, adapter: Adapter | None
) -> list[Answer]:
    """The greedy answer to each line, with its confidence."""

    async def ask(line: CompletedLine) -> Answer:
        request = greedy(line.prompt, line.messages, max_tokens, adapter, confidence=True)
        outputs, _ = await collect(engine, request)
        return outputs[0]

    return await _all(engine.model.max_num_seqs, lines, ask, _whose(adapter))


async def _all(
    most: int,
    items: Sequence[Item],
    ask: Callable[[Item], Awaitable[Result]],
    whose: str,
) -> list[Result]:
    bar: tqdm[Any] = tqdm(total=len(items), desc=f"evaluating {whose}", unit="line")

    async def one(item: Item) -> Result:
        answer = await ask(item)
        bar.update()
        return answer

    with bar:
        async with internal_request("evaluation", _SECONDS):
            return await patiently(most, items, one)


def _whose(adapter: Adapter | None) -> str:
    return "the base" if adapter is None else adapter.name
