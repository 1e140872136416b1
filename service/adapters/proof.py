"""Proof of an adapter and comparison with its base on the engine: golden examples, fingerprint.

All engine requests pass through the gate, like users' requests.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.adapters.asking import Refuse, answered, check_accuracy
from service.adapters.fingerprint import FingerprintMatch, compare_fingerprint, take_fingerprint
from service.adapters.golden_score import GoldenResult
from service.adapters.manifest import (
    ClassificationGolden,
    Fingerprint,
    GenerationGolden,
    Manifest,
)
from service.adapters.questions import ask_golden
from service.adapters.refusal import AdapterRefused
from service.common.aio import together
from service.context import internal_request
from service.engine.protocol import Adapter
from service.engine.roles import Decoder

Golden = ClassificationGolden | GenerationGolden


@dataclass(frozen=True, slots=True)
class Proof:
    """Result of the golden examples and of the fingerprint, if there is one, in `seconds`.

    `base` is the base's result for the same examples.
    """

    result: GoldenResult
    base: GoldenResult
    min_accuracy: float
    fingerprint: FingerprintMatch | None
    seconds: float


async def prove(
    engine: Decoder,
    adapter: Adapter,
    manifest: Manifest,
    timeout_s: float,
    *,
    background: bool = False,
) -> Proof | None:
    """Run the golden examples of a loaded adapter and of its base; None if it has none.

    Classification takes the best label (with multi_label: those that apply), generation the greedy
    answer. In the `background` it takes only the capacity that users leave.

    Raises AdapterRefused when the adapter passes too few, when the base passes enough,
    when the fingerprint differs, when an example cannot be answered or compared, and when not all
    is done within `timeout_s`; EngineDead when the engine ends.
    """
    golden = manifest.golden
    if golden is None:
        return None
    started, refuse = time.monotonic(), _refuse(manifest.name, golden)
    async with internal_request(f"proof-{adapter.name}", timeout_s) as context:
        if background:
            context.become_flex()
        with answered(refuse, timeout_s):
            questions = await ask_golden(engine, Path(adapter.path), manifest)
            assert questions is not None
            match = await compare_fingerprint(engine, adapter, manifest, questions)
            result, base = await together([questions.result(whose) for whose in (adapter, None)])
    _check(refuse, golden, result, base)
    return Proof(result, base, golden.min_accuracy, match, time.monotonic() - started)


async def fingerprint_of(
    engine: Decoder, adapter: Adapter, manifest: Manifest, timeout_s: float
) -> Fingerprint:
    """The fingerprint of a loaded adapter that has golden examples.

    Raises AdapterRefused if it has none or differs too little from its base, and like `prove`.
    """
    golden = manifest.golden
    if golden is None:
        raise AdapterRefused(
            manifest.name, "adapter.yaml", "cannot be proven", "golden examples", "none"
        )
    async with internal_request(f"fingerprint-{adapter.name}", timeout_s):
        with answered(_refuse(manifest.name, golden), timeout_s):
            questions = await ask_golden(engine, Path(adapter.path), manifest)
            assert questions is not None
            return await take_fingerprint(engine, adapter, manifest.name, questions)


def _refuse(name: str, golden: Golden) -> Refuse:
    return partial(_refusal, name, golden.file)


def _refusal(name: str, file: str, expected: str, found: object) -> AdapterRefused:
    return AdapterRefused(name, file, "proof", expected, found)


def _check(refuse: Refuse, golden: Golden, result: GoldenResult, base: GoldenResult) -> None:
    check_accuracy(refuse, result, golden.min_accuracy)
    if base.accuracy >= golden.min_accuracy:
        raise refuse(
            f"examples of which the base passes less than {golden.min_accuracy:g}",
            f"the base passes {base.passed} of {base.total} as well",
        )
