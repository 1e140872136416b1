"""Fingerprints of adapters and heads, taken on a running engine when they are packed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from service.adapters.formats import AdapterRefused
from service.adapters.golden import ClassificationExample
from service.adapters.heads import MAX_FINGERPRINT_LINES, golden_logits
from service.adapters.heads import Values as HeadValues
from service.adapters.manifest import (
    MANIFEST_FILE,
    MAX_READ_TOKENS,
    MAX_READS,
    Fingerprint,
    FingerprintRead,
    Manifest,
)
from service.adapters.proof import Place, check_separate, distance, measure, reads_at
from service.adapters.questions import (
    ClassificationQuestions,
    Questions,
    load_questions,
    refuse_unanswered,
)
from service.common.aio import gather
from service.context import internal_request
from service.engine.contract import Adapter
from service.engine.pooling import Pooler
from service.generation.served_model import ServedModel

_DECIMALS, _HEAD_DECIMALS = 3, 4
_PLACED_EXAMPLES = 16
"""Number of examples whose answers are searched for positions to fingerprint."""


async def adapter_fingerprint(
    engine: ServedModel, adapter: Adapter, manifest: Manifest, timeout_s: float
) -> Fingerprint:
    """The fingerprint of a loaded adapter and its base, at the places where they differ most.

    Raises AdapterRefused if the adapter has no golden examples or differs too little from its base,
    and like `adapters.proof.prove`.
    """
    name, golden = manifest.name, manifest.golden
    if golden is None:
        raise AdapterRefused(name, MANIFEST_FILE, "cannot be proven", "golden examples", "none")
    async with internal_request(f"fingerprint-{adapter.name}", timeout_s):
        with refuse_unanswered(partial(AdapterRefused, name, golden.file), timeout_s):
            questions = await load_questions(engine, Path(adapter.path), manifest)
            places = await _places(questions, adapter)
            asked = await reads_at(engine, questions, places)
            of_adapter, of_base = await gather(
                measure(engine, asked, whose) for whose in (adapter, None)
            )
    reads = [
        FingerprintRead(
            line=line, after=after, tokens=tokens, adapter=_rounded(one), base=_rounded(other)
        )
        for (line, after, tokens), one, other in zip(places, of_adapter, of_base, strict=True)
    ]
    reads.sort(key=lambda read: -distance([read.adapter], [read.base]))
    fingerprint = tuple(reads[:MAX_READS])
    check_separate(partial(AdapterRefused, name, MANIFEST_FILE), fingerprint)
    return fingerprint


async def _places(questions: Questions, adapter: Adapter) -> Sequence[Place]:
    """Positions in the answers to the first examples that a fingerprint may read."""
    if isinstance(questions, ClassificationQuestions):
        read = questions.frame().questions[0].scorer.trie.reads[0]
        tokens = read.token_ids[:MAX_READ_TOKENS]
        count = min(len(questions.examples), _PLACED_EXAMPLES)
        return [(line, read.prefix, tokens) for line in range(1, count + 1)]
    found = list[Place]()
    answers = await questions.answers(questions.examples[:_PLACED_EXAMPLES], adapter)
    for line, text in enumerate(answers, 1):
        answer = tuple(questions.engine.encode(text)[:MAX_READ_TOKENS])
        tokens = tuple(dict.fromkeys(answer))
        found += [(line, answer[:before], tokens) for before in range(len(answer))]
    return found


def _rounded(values: Sequence[float], decimals: int = _DECIMALS) -> tuple[float, ...]:
    return tuple(round(float(value), decimals) for value in values)


async def head_fingerprint(
    engine: Pooler, examples: Sequence[ClassificationExample], timeout_s: float
) -> HeadValues:
    """The logits that a running head gives for the first of its golden examples.

    Raises what `Pooler` raises.
    """
    async with internal_request(f"fingerprint-{engine.info.name}", timeout_s):
        found = await golden_logits(engine, examples[:MAX_FINGERPRINT_LINES])
    return tuple(_rounded(row, _HEAD_DECIMALS) for row in found)
