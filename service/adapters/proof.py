"""Proof that an engine runs an adapter as packed: its golden examples and its fingerprint.

A fingerprint is a set of log-probabilities that identifies the adapter's weights. `distance` is the
root mean square difference of two fingerprints, in nats. `effect` compares how the adapter changes
the base's log-probabilities: the change measured here, projected onto the change in the package.
The effect is 1 for the packed weights, 0 for the base, and in between for incomplete weights.
Rounding changes each value by about a tenth of a nat, but hardly changes the effect, which averages
over all values.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from service.adapters.formats import AdapterRefused
from service.adapters.golden_score import GoldenResult
from service.adapters.manifest import MANIFEST_FILE, Fingerprint, FingerprintRead, Manifest
from service.adapters.proof_record import ProofRecord, Recorded
from service.adapters.questions import (
    Questions,
    ask_all,
    check_accuracy,
    load_questions,
    refuse_unanswered,
)
from service.classification.calibration import Array
from service.common.aio import gather
from service.context import internal_request
from service.engine.contract import Adapter
from service.engine.texts import LabelEngine
from service.generation.served_model import ServedModel
from service.sources.reference import Refuse

TOLERANCE = 0.5
"""Largest distance that other processors and dtypes may cause (docs/decisions, adapter proof)."""
EFFECT_TOLERANCE = 0.05
"""Largest deviation of the effect from 1 for the same reason."""
SEPARATION = 2 * TOLERANCE
"""Least distance of a packed adapter from its base."""

Values = Sequence[Sequence[float]]

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Where to read: line of the golden file (from 1), answer tokens before it, candidate token ids."""
Read = tuple[list[int], tuple[int, ...]]
"""The tokens of a place's prompt and answer, and its candidates."""


@dataclass(frozen=True, slots=True)
class FingerprintMatch:
    """Comparison of the adapter on this machine with its packed fingerprint.

    `base` are the base's values at the places that a later start compares again.
    """

    reads: int
    distance: float
    effect: float
    base: Values = field(default=(), repr=False)

    @property
    def holds(self) -> bool:
        """True if these can be the packed weights."""
        return self.distance <= TOLERANCE and abs(self.effect - 1) <= EFFECT_TOLERANCE


async def compare_fingerprint(
    engine: LabelEngine,
    adapter: Adapter,
    manifest: Manifest,
    questions: Questions,
    *,
    before: Values | None = None,
) -> FingerprintMatch | None:
    """Measure a loaded adapter and its base at the packed places; None without a fingerprint.

    With `before`, a match's `base` from an earlier start of this engine, only the adapter is
    measured, at the same few places.

    Raises AdapterRefused if the adapter's or the base's values are farther than TOLERANCE from the
    packed ones, if the adapter's effect differs from 1 by more than EFFECT_TOLERANCE, and if the
    packed values of adapter and base differ too little.
    """
    packed = manifest.fingerprint
    if packed is None:
        return None
    refuse = partial(AdapterRefused, manifest.name, MANIFEST_FILE)
    check_separate(refuse, packed)
    places = [(read.line, read.after, read.tokens) for read in packed]
    reads = await reads_at(engine, questions, places)
    # A read costs the length of its prompt.
    few = sorted(range(len(reads)), key=lambda place: len(reads[place][0]))[:_PLACES_AGAIN]
    if before is not None:
        of_adapter = await measure(engine, [reads[place] for place in few], adapter)
        return _judge(refuse, [packed[place] for place in few], of_adapter, before)
    of_adapter, of_base = await gather(measure(engine, reads, whose) for whose in (adapter, None))
    match = _judge(refuse, packed, of_adapter, of_base)
    return replace(match, base=[of_base[place] for place in few])


def _judge(
    refuse: Refuse, packed: Sequence[FingerprintRead], of_adapter: Values, of_base: Values
) -> FingerprintMatch:
    """Compare measured values with the packed ones; raises as `compare_fingerprint`."""
    packed_adapter = [read.adapter for read in packed]
    packed_base = [read.base for read in packed]
    base_moved = distance(of_base, packed_base)
    if base_moved > TOLERANCE:
        raise refuse(
            "fingerprint of the base",
            f"log-probabilities within {TOLERANCE:g} nats of those packed",
            f"{base_moved:.2f} nats: the engine computes the base otherwise",
        )
    match = FingerprintMatch(
        reads=len(packed),
        distance=distance(of_adapter, packed_adapter),
        effect=effect(of_adapter, of_base, packed_adapter, packed_base),
    )
    if not match.holds:
        raise refuse(
            "fingerprint",
            f"log-probabilities within {TOLERANCE:g} nats of those packed and an effect within "
            f"{EFFECT_TOLERANCE:g} of 1",
            f"{match.distance:.2f} nats and an effect of {match.effect:.2f}",
        )
    return match


def distance(one: Values, other: Values) -> float:
    """Root mean square difference of two measurements of the same reads, in nats."""
    return float(np.sqrt(np.mean((_flat(one) - _flat(other)) ** 2)))


def effect(adapter: Values, base: Values, packed: Values, packed_base: Values) -> float:
    """The measured difference from the base, projected onto the packed one; 1 if they are equal."""
    wanted = _flat(packed) - _flat(packed_base)
    return float((_flat(adapter) - _flat(base)) @ wanted / (wanted @ wanted))


def _flat(values: Values) -> Array:
    return np.concatenate([np.asarray(read, np.float64) for read in values])


async def reads_at(
    engine: LabelEngine, questions: Questions, places: Sequence[Place]
) -> list[Read]:
    """What to read at each place; the prompt of a line is rendered once."""
    lines = list(dict.fromkeys(line for line, _, _ in places))
    rendered = await ask_all(engine.model.max_num_seqs, lines, questions.prompt)
    prompts = dict(zip(lines, rendered, strict=True))
    return [([*prompts[line], *after], tokens) for line, after, tokens in places]


async def measure(engine: LabelEngine, reads: Sequence[Read], whose: Adapter | None) -> Values:
    """Log-probabilities of the candidates of each read, as the adapter or the base gives them."""

    async def read(asked: Read) -> Sequence[float]:
        return (await engine.label_logprobs(*asked, whose)).logprobs

    return await ask_all(engine.model.max_num_seqs, reads, read)


def check_separate(refuse: Refuse, fingerprint: Fingerprint) -> None:
    """Raise the refusal of a fingerprint whose adapter and base differ too little."""
    found = distance([read.adapter for read in fingerprint], [read.base for read in fingerprint])
    if found < SEPARATION:
        expected = f"log-probabilities at least {SEPARATION:g} nats apart"
        rule = "fingerprint cannot tell the adapter from its base"
        raise refuse(rule, expected, f"{found:.2f} nats")


_PLACES_AGAIN = 4
"""Places of the fingerprint that are measured of a recorded proof, whose engine gave all before."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Result of the golden examples and of the fingerprint, if there is one.

    `base` is the base's result for the same examples. The proof took `seconds`. With `recorded` the
    examples were answered at an earlier start, and only a part of the fingerprint was taken now.
    """

    result: GoldenResult
    base: GoldenResult
    min_accuracy: float
    fingerprint: FingerprintMatch | None
    seconds: float
    recorded: bool = False


async def _compare_part(
    compare: Callable[..., Awaitable[FingerprintMatch | None]], known: Recorded
) -> FingerprintMatch | None:
    """Compare a part of the fingerprint; None if it differs, and the whole decides."""
    with suppress(AdapterRefused):
        return await compare(before=known.base_logprobs)
    return None


async def prove(
    engine: ServedModel,
    adapter: Adapter,
    manifest: Manifest,
    timeout_s: float,
    *,
    background: bool = False,
    record: ProofRecord | None = None,
) -> Proof | None:
    """Run the golden examples of a loaded adapter and of its base; None if it has none.

    Classification takes the best label (with multi_label: those that apply), generation the greedy
    answer. With `background` it uses only capacity that users leave free. With a `record`, examples
    that passed before are not asked again if a part of the fingerprint is right.

    Raises AdapterRefused if the adapter passes too few examples, if the base passes enough of them,
    if the fingerprint differs, if an example cannot be answered or compared, and if the proof takes
    longer than `timeout_s`; EngineDead when the engine ends.
    """
    golden = manifest.golden
    if golden is None:
        return None
    started, refuse = time.monotonic(), partial(AdapterRefused, manifest.name, golden.file)
    async with internal_request(f"proof-{adapter.name}", timeout_s) as context:
        if background:
            context.become_flex()
        with refuse_unanswered(refuse, timeout_s):
            questions = await load_questions(engine, Path(adapter.path), manifest)
            compare = partial(compare_fingerprint, engine, adapter, manifest, questions)
            # Without a fingerprint only the examples tell whether the weights were loaded.
            record = record if manifest.fingerprint else None
            known = None if record is None else await asyncio.to_thread(record.find, adapter)
            match = None if known is None else await _compare_part(compare, known)
            if known is None or match is None:
                known, match = None, await compare()
                result, base = await gather(map(questions.result, (adapter, None)))
            else:
                result, base = known.result, known.base
    check_accuracy(refuse, result, golden.min_accuracy)
    if base.accuracy >= golden.min_accuracy:
        raise refuse(
            "proof",
            f"examples of which the base passes less than {golden.min_accuracy:g}",
            f"the base passes {base.passed} of {base.total} as well",
        )
    if record is not None and known is None and match is not None:
        await asyncio.to_thread(record.add, adapter, Recorded(result, base, match.base))
    seconds = time.monotonic() - started
    return Proof(result, base, golden.min_accuracy, match, seconds, recorded=known is not None)
