"""Proof: an adapter's golden examples, answered by the engine through the path of every request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service.adapters.golden import (
    GenerationExample,
    load_classification_golden,
    load_generation_golden,
)
from service.adapters.golden_score import GoldenResult, score_classification, score_generation
from service.adapters.manifest import GenerationManifest, Manifest
from service.adapters.pattern import PatternRefused
from service.adapters.refusal import AdapterRefused
from service.classification.adapter_classifier import AdapterClassifier
from service.classification.together import together
from service.context import current_context, internal_request
from service.engine.protocol import Adapter, Engine, Message, Sampling
from service.errors import DeadlineExceeded, EngineDead, QueueFull, ServiceError
from service.generation import GenerationRequest, collect

_FULL_PAUSE_SECONDS = 0.1

_Example = TypeVar("_Example")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Proof:
    """What the golden examples showed, in how many seconds."""

    result: GoldenResult
    min_accuracy: float
    seconds: float


async def prove(
    engine: Engine,
    adapter: Adapter,
    manifest: Manifest,
    classifier: AdapterClassifier | None,
    timeout_s: float,
) -> Proof | None:
    """Run the golden examples of a loaded adapter, many at once; None if it has none.

    Classification takes the best label (with multi_label: those that apply), generation the greedy
    answer.
    Raises AdapterRefused when too few pass, when one cannot be answered or compared, and when
    they are not all answered and compared within `timeout_s`; EngineDead when the engine ends.
    """
    golden = manifest.golden
    if golden is None:
        return None
    started = time.monotonic()
    async with internal_request(f"proof-{adapter.name}", timeout_s):
        try:
            result = await _run(engine, adapter, manifest, classifier)
        except EngineDead:
            raise
        except DeadlineExceeded as error:
            raise AdapterRefused(
                manifest.name, golden.file, "proof", f"answers within {timeout_s:g} s", "too few"
            ) from error
        except TimeoutError as error:
            raise AdapterRefused(
                manifest.name, golden.file, "proof", f"comparisons within {timeout_s:g} s", "slower"
            ) from error
        except PatternRefused as error:
            raise AdapterRefused(
                manifest.name, golden.file, "proof", "patterns that answer in time", error
            ) from error
        except ServiceError as error:
            raise AdapterRefused(
                manifest.name, golden.file, "proof", "an answer to every example", error.message
            ) from error
    if result.accuracy < golden.min_accuracy:
        raise AdapterRefused(
            manifest.name,
            golden.file,
            "proof",
            f"an accuracy of at least {golden.min_accuracy:g}",
            _shortfall(result),
        )
    return Proof(result, golden.min_accuracy, time.monotonic() - started)


async def _run(
    engine: Engine, adapter: Adapter, manifest: Manifest, classifier: AdapterClassifier | None
) -> GoldenResult:
    width = engine.model.max_num_seqs
    folder = Path(adapter.path)
    if isinstance(manifest, GenerationManifest):
        asked = await asyncio.to_thread(load_generation_golden, folder, manifest)
        assert manifest.golden is not None
        requests = [_request(example, manifest, adapter) for example in asked]

        async def generate(request: GenerationRequest) -> str:
            outputs, _ = await collect(engine, request)
            return outputs[0].text

        texts = await _all(requests, generate, width)
        left = current_context().remaining()
        return await asyncio.to_thread(score_generation, asked, texts, manifest.golden, left)
    examples = await asyncio.to_thread(load_classification_golden, folder, manifest)
    assert classifier is not None
    scorer = classifier

    async def classify(text: str) -> frozenset[str]:
        answer = await scorer.classify(text)
        if manifest.classification.multi_label:
            return frozenset(answer.label_set or ())
        return frozenset((answer.scores[0].label,))

    answers = await _all([example.input for example in examples], classify, width)
    return await asyncio.to_thread(score_classification, examples, answers)


async def _all(
    examples: Sequence[_Example], answer: Callable[[_Example], Awaitable[_Answer]], width: int
) -> list[_Answer]:
    slots = asyncio.Semaphore(width)

    async def one(example: _Example) -> _Answer:
        async with slots:
            while True:
                try:
                    return await answer(example)
                except QueueFull:
                    # A reload on a busy server: users come first, until the proof's own deadline.
                    if current_context().remaining() <= _FULL_PAUSE_SECONDS:
                        raise
                    await asyncio.sleep(_FULL_PAUSE_SECONDS)

    return await together([one(example) for example in examples])


def _request(
    example: GenerationExample, manifest: GenerationManifest, adapter: Adapter
) -> GenerationRequest:
    assert manifest.golden is not None
    prompt = example.prompt
    if example.input is not None and manifest.prompt is not None:
        prompt = manifest.prompt.render(example.input)
    messages = [Message(each.role, each.content) for each in example.messages or ()]
    return GenerationRequest(
        prompt=prompt,
        messages=messages or None,
        max_tokens=manifest.golden.max_tokens,
        sampling=Sampling(max_tokens=manifest.golden.max_tokens, temperature=0.0),
        adapter=adapter,
        confidence=False,
    )


def _shortfall(result: GoldenResult) -> str:
    shown = "".join(
        f"; line {failure.line}: expected {failure.expected!r}, found {failure.found!r}"
        for failure in result.failures[:1]
    )
    return f"{result.passed} of {result.total} right ({result.accuracy:.3f}){shown}"
