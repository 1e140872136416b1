"""Engines without HTTP for commands: a base model that measures and packs adapters, or a head.

Commands use an engine through this module alone: they pass texts and folders, and get arrays and
answers.
"""

import asyncio
import gc
import importlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from tqdm import tqdm

from service.adapters.classifier import AdapterFrame
from service.adapters.golden import Asking, read_labelled_examples
from service.adapters.heads import HeadManifest, HeadRefused, prove_head
from service.adapters.manifest import ClassificationGolden, LabelSet, PromptTemplate
from service.adapters.manifest_yaml import write_manifest
from service.adapters.proof import prove
from service.adapters.questions import ask_all, greedy
from service.adapters.verify import VerifiedAdapter
from service.classification.calibration import Array
from service.classification.encoder import HeadClassifier, answer_rows
from service.common.aio import gather
from service.context import internal_request
from service.engine.contract import Adapter
from service.engine.pooling import Pooler
from service.generation.served_model import ServedModel
from service.generation.text import collect
from service.models.base_model import ServedBase
from service.models.file_list import pin_folder
from service.settings.admission import AdmissionSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from training.fingerprints import adapter_fingerprint, head_fingerprint
from training.packing import check_draft

_RANKS = (8, 16, 32, 64, 128, 256)
"""vLLM's choices of `max_lora_rank` up to this service's largest."""
_SECONDS = 6 * 3600.0
_PATIENT = AdmissionSettings(max_wait_ms=int(_SECONDS * 1000), target_token_ms=None)
"""Batch work: no user waits for a first token, so refuse no request and keep the limit up."""
_PROOF_SECONDS = 300.0

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def importing_vllm() -> Iterator[None]:
    """Import vLLM before a block that starts engines; collect garbage after it.

    vLLM keeps the stack frames of its first import alive, so no engine may be referenced from them.
    An engine is part of reference cycles, and prints a stack trace if it is collected only at the
    interpreter's exit.
    """
    importlib.import_module("service.vllm.start")
    try:
        yield
    finally:
        gc.collect()


def measuring_settings(base: ModelSettings, engine: Mapping[str, Any], rank: int) -> Settings:
    """The settings under which an adapter of this rank is measured on its base."""
    lora = {"max_lora_rank": next(each for each in _RANKS if each >= rank)}
    return Settings(
        model=base, engine=lora | dict(engine), admission=_PATIENT, golden_timeout_s=_PROOF_SECONDS
    )


@dataclass(frozen=True, slots=True)
class GreedyAnswer:
    """A whole answer, and the probability of its least certain token."""

    text: str
    least_probability: float


class OfflineModel:
    """A base model on its engine, with one adapter at a time; `adapter` None is the base."""

    def __init__(self, engine: ServedModel, proof_seconds: float) -> None:
        self._engine = engine
        self._proof_seconds = proof_seconds
        self._ids = itertools.count(1)

    @asynccontextmanager
    async def loaded(self, name: str, folder: Path, digest: str) -> AsyncIterator[Adapter]:
        """Load an adapter for the duration of a block."""
        adapter = Adapter(name, next(self._ids), str(folder), digest)
        await self._engine.load_adapter(adapter)
        try:
            yield adapter
        finally:
            await self._engine.unload_adapter(adapter)

    async def label_scores(
        self,
        prompt: PromptTemplate,
        labels: LabelSet,
        adapter: Adapter | None,
        texts: Sequence[str],
    ) -> Array:
        """Log P of every answer to every question, uncalibrated: (texts, questions, answers).

        The questions and answers are those of `AdapterFrame`.
        """
        engine, frame = self._engine, AdapterFrame(self._engine, prompt, labels)
        # Each text makes its reads one by one, so ask as many texts at once as the engine runs.
        most = engine.model.max_num_seqs
        slots = asyncio.Semaphore(most)

        async def ask(text: str) -> Array:
            scores = await gather(
                question.scorer.score(engine, frame.prompt(text, question), adapter, slots)
                for question in frame.questions
            )
            return np.stack([score.log_probs for score in scores])

        return np.stack(await _ask_all(most, texts, ask, _name(adapter)))

    async def answers(
        self, asked: Sequence[Asking], max_tokens: int, adapter: Adapter | None
    ) -> list[GreedyAnswer]:
        """The greedy answer to each prompt or conversation."""

        async def ask(each: Asking) -> GreedyAnswer:
            request = greedy(each.prompt, each.messages, max_tokens, adapter, confidence=True)
            ((answer,), _) = await collect(self._engine, await request.prepare(self._engine))
            least = answer.confidence.min_token_probability if answer.confidence else 0.0
            return GreedyAnswer(answer.text, least)

        return await _ask_all(self._engine.model.max_num_seqs, asked, ask, _name(adapter))

    async def pack(
        self,
        folder: Path,
        base: ServedBase,
        draft: Mapping[str, object],
        *,
        overwrite: bool = False,
    ) -> VerifiedAdapter:
        """Take the fingerprint, prove the adapter, and write `adapter.yaml`.

        Checks the draft as `check_draft` does; then fingerprint and proof may take `proof_seconds`
        each. Raises AdapterRefused before it writes, and EngineDead when the engine ends.
        """
        checked = await asyncio.to_thread(check_draft, folder, base, draft, overwrite=overwrite)
        manifest, seconds = checked.manifest, self._proof_seconds
        async with self.loaded(manifest.name, folder, manifest.digest) as adapter:
            fingerprint = await adapter_fingerprint(self._engine, adapter, manifest, seconds)
            manifest = manifest.model_copy(update={"fingerprint": fingerprint})
            await prove(self._engine, adapter, manifest, seconds)
        write_manifest(folder, manifest)
        return replace(checked, manifest=manifest)


@asynccontextmanager
async def offline_model(settings: Settings) -> AsyncIterator[OfflineModel]:
    """Start the engine of the configured base, with room for one adapter, for a block.

    Raises ConfigurationError if it cannot start.
    """
    from service.runtime.running import running
    from service.vllm.start import start_vllm

    # A slot for each configured adapter would waste memory.
    slots = {"max_loras": 1, **settings.engine, "enable_lora": True}
    alone = settings.model_copy(update={"engine": slots, "adapters": ()})
    async with running(alone, start_vllm) as parts:
        yield OfflineModel(parts.engine, settings.golden_timeout_s)


class OfflineHead:
    """An encoder with its head on its engine."""

    def __init__(self, engine: Pooler) -> None:
        self._engine = engine

    async def scores(self, texts: Sequence[str]) -> Array:
        """Log P of every answer, uncalibrated, as `OfflineModel.label_scores`."""
        classifier, most = HeadClassifier(self._engine), self._engine.info.max_num_seqs
        slots = asyncio.Semaphore(most)

        async def ask(text: str) -> Array:
            pooled = await classifier.ask(text, slots)
            return answer_rows(pooled.values, multi_label=classifier.multi_label)

        return np.stack(await _ask_all(most, texts, ask, self._engine.info.name))

    async def pack(self, folder: Path, draft: Mapping[str, Any]) -> None:
        """Take the fingerprint, write the manifest and the digests of all files, prove the head.

        `draft` has the manifest's fields without `fingerprint`. Raises HeadRefused.
        """
        name, golden = draft["name"], ClassificationGolden.model_validate(draft["golden"])
        refuse = partial(HeadRefused, name, golden.file)
        labels, multi_label = tuple(draft["labels"]), bool(draft["multi_label"])
        examples = read_labelled_examples(
            folder / golden.file, refuse, labels, multi_label=multi_label
        )
        fingerprint = await head_fingerprint(self._engine, examples, _PROOF_SECONDS)
        HeadManifest.model_validate({**draft, "fingerprint": fingerprint}).write(folder)
        pin_folder(folder, f"{name}@{draft['version']}")
        await prove_head(self._engine, folder, _PROOF_SECONDS)


@asynccontextmanager
async def offline_head(
    name: str, folder: Path, engine: Mapping[str, Any]
) -> AsyncIterator[OfflineHead]:
    """Start an encoder with its head for a block; a head with a manifest is proven first.

    Raises ConfigurationError if it cannot start.
    """
    from service.runtime.running import running_encoders
    from service.vllm.cpu.forkserver import begin_seed
    from service.vllm.start import VllmEngines

    encoder = EncoderSettings(name=name, path=folder, engine=dict(engine))
    alone = Settings(encoders=(encoder,), admission=_PATIENT)
    begin_seed(alone)
    start, metrics = VllmEngines(alone).start_encoder, Metrics(CollectorRegistry())
    async with running_encoders(alone, start, metrics) as encoders:
        (head,) = encoders.values()
        assert head is not None  # a required one starts, or the block is not entered
        yield OfflineHead(head.engine)


async def _ask_all(
    most: int, items: Sequence[Item], ask: Callable[[Item], Awaitable[Result]], name: str
) -> list[Result]:
    """The answers to all items, under a progress bar."""
    bar: tqdm[Any] = tqdm(total=len(items), desc=f"evaluating {name}", unit="line")

    async def one(item: Item) -> Result:
        answer = await ask(item)
        bar.update()
        return answer

    with bar:
        async with internal_request("evaluation", _SECONDS):
            return await ask_all(most, items, one)


def _name(adapter: Adapter | None) -> str:
    return "the base" if adapter is None else adapter.name
