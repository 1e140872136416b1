"""The numeric fingerprint of an adapter: log-probabilities that tell its weights from any others.

Distances are root mean squares over all values of a fingerprint, in nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.adapters.manifest import (
    MANIFEST_FILE,
    MAX_READS,
    Fingerprint,
    FingerprintRead,
    Manifest,
)
from service.adapters.questions import Place, Questions, patiently
from service.adapters.refusal import AdapterRefused
from service.classification.together import together
from service.engine.protocol import Adapter, Engine, Prompt

TOLERANCE = 0.4
"""Distance that other processors and dtypes stay within (docs/decisions, adapter proof)."""
SEPARATION = 4 * TOLERANCE
"""Least distance of a packed adapter from its base."""
_DECIMALS = 3

Values = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class FingerprintMatch:
    """Distances on this machine: of the adapter from what was packed, and from the base."""

    reads: int
    distance: float
    base_distance: float


async def take_fingerprint(
    engine: Engine, adapter: Adapter, name: str, questions: Questions
) -> Fingerprint:
    """The fingerprint of a loaded adapter and its base: of all places the most telling ones.

    Raises AdapterRefused if the adapter cannot be told from its base.
    """
    places = await questions.places(adapter)
    of_adapter, of_base = await together(
        [_measure(engine, questions, places, whose) for whose in (adapter, None)]
    )
    reads = [
        FingerprintRead(
            line=line, after=after, tokens=tokens, adapter=_rounded(one), base=_rounded(other)
        )
        for (line, after, tokens), one, other in zip(places, of_adapter, of_base, strict=True)
    ]
    reads.sort(key=lambda read: -distance([read.adapter], [read.base]))
    fingerprint = tuple(reads[:MAX_READS])
    _check_separate(name, fingerprint)
    return fingerprint


async def compare_fingerprint(
    engine: Engine, adapter: Adapter, manifest: Manifest, questions: Questions
) -> FingerprintMatch | None:
    """Measure a loaded adapter and its base where it was packed; None without a fingerprint.

    Raises AdapterRefused when the adapter's values are farther than TOLERANCE from those packed,
    when the base's are, and for a fingerprint that cannot tell the two apart.
    """
    packed = manifest.fingerprint
    if packed is None:
        return None
    _check_separate(manifest.name, packed)
    places = [(read.line, read.after, read.tokens) for read in packed]
    of_adapter, of_base = await together(
        [_measure(engine, questions, places, whose) for whose in (adapter, None)]
    )
    match = FingerprintMatch(
        reads=len(packed),
        distance=distance(of_adapter, [read.adapter for read in packed]),
        base_distance=distance(of_adapter, of_base),
    )
    wanted = f"log-probabilities within {TOLERANCE:g} nats of those packed"
    base_moved = distance(of_base, [read.base for read in packed])
    if base_moved > TOLERANCE:
        found = f"{base_moved:.2f} nats: the engine computes the base otherwise"
        raise AdapterRefused(manifest.name, MANIFEST_FILE, "fingerprint of the base", wanted, found)
    if match.distance > TOLERANCE:
        found = f"{match.distance:.2f} nats, and {match.base_distance:.2f} from the base"
        raise AdapterRefused(manifest.name, MANIFEST_FILE, "fingerprint", wanted, found)
    return match


def distance(one: Values, other: Values) -> float:
    """Root mean square difference of two measurements of the same reads, in nats."""
    squares = [
        (left - right) ** 2
        for lefts, rights in zip(one, other, strict=True)
        for left, right in zip(lefts, rights, strict=True)
    ]
    return math.sqrt(math.fsum(squares) / len(squares))


async def _measure(
    engine: Engine, questions: Questions, places: Sequence[Place], whose: Adapter | None
) -> list[list[float]]:
    async def read(place: Place) -> list[float]:
        line, after, tokens = place
        prompt = await questions.prompt(line)
        longer = Prompt([*prompt.token_ids, *after])
        return list((await engine.label_logprobs(longer, tokens, whose)).logprobs)

    return await patiently(engine, places, read)


def _check_separate(name: str, fingerprint: Fingerprint) -> None:
    found = distance([read.adapter for read in fingerprint], [read.base for read in fingerprint])
    if found < SEPARATION:
        raise AdapterRefused(
            name,
            MANIFEST_FILE,
            "fingerprint cannot tell the adapter from its base",
            f"log-probabilities at least {SEPARATION:g} nats apart",
            f"{found:.2f} nats",
        )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, _DECIMALS) for value in values)
