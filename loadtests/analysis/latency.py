"""Latency metrics by plain definitions, in seconds.

ttft        first content - send
ttft_due    first content - due instant: the time that a user waits, also if the load generator
            sent the request late
icl         gaps between chunks with content
itl         the same for each token: a gap before k tokens counts k times as gap/k
tpot        (e2e - ttft) / (tokens - 1)
ntpot       e2e / tokens
e2e         end of the answer - send; e2e_due counts from the due instant
queue       time in the server's queue, as the server reports it
classify, classify_due    e2e of classification requests, which have no tokens
embed, embed_due          the same of requests for embeddings
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadtests.analysis.statistics import Distribution, describe
from loadtests.protocol.record import Record

NAMES = (
    "ttft",
    "ttft_due",
    "icl",
    "itl",
    "tpot",
    "ntpot",
    "e2e",
    "e2e_due",
    "queue",
    "classify",
    "classify_due",
    "embed",
    "embed_due",
)


def lag(record: Record) -> float:
    """Delay from the planned to the actual send; zero for a request that was never sent."""
    return 0.0 if record.sent is None else record.sent - record.due


def ttft(record: Record) -> float | None:
    """Time to first content; without content, the time to the answer's end."""
    return record.chunks[0] if record.chunks else record.e2e


def tpot(record: Record) -> float | None:
    """Mean time per token after the first; None for fewer than two tokens."""
    if record.tokens < 2 or not record.chunks or record.e2e is None:
        return None
    return (record.e2e - record.chunks[0]) / (record.tokens - 1)


def token_gaps(record: Record) -> list[float]:
    """Inter-token latencies.

    If the server does not report the tokens of each chunk, they are divided evenly among the
    chunks. If there is one token more than chunks, it is the end-of-text token, which has no chunk.
    """
    gaps = np.diff(record.chunks)
    if record.chunk_tokens is not None:
        counts = record.chunk_tokens[1:]
        return [gap / k for gap, k in zip(gaps, counts, strict=True) for _ in range(k) if k > 0]
    chunks = len(record.chunks)
    per_chunk = record.tokens / chunks if chunks and record.tokens > chunks + 1 else 1.0
    return list(gaps / per_chunk)


def samples(records: Sequence[Record]) -> dict[str, tuple[list[float], list[int]]]:
    """Each metric's values over the successful records, and the record each belongs to."""
    found: dict[str, tuple[list[float], list[int]]] = {name: ([], []) for name in NAMES}
    for number, record in enumerate(records):
        if record.ok:
            for name, values in _of(record).items():
                found[name][0].extend(values)
                found[name][1].extend([number] * len(values))
    return found


def distributions(records: Sequence[Record]) -> dict[str, Distribution]:
    """The distribution of each metric that has samples."""
    found = {}
    for name, (values, members) in samples(records).items():
        if values:
            clusters: NDArray[np.int64] = np.asarray(members, dtype=np.int64)
            found[name] = describe(np.asarray(values), clusters)
    return found


def _of(record: Record) -> dict[str, list[float]]:
    if record.e2e is None:
        return {}
    late = lag(record)
    if record.task != "generate":
        return {record.task: [record.e2e], f"{record.task}_due": [record.e2e + late]}
    values = {"e2e": [record.e2e], "e2e_due": [record.e2e + late]}
    if record.queue_s is not None:
        values["queue"] = [record.queue_s]
    if record.chunks:
        values["ttft"] = [record.chunks[0]]
        values["ttft_due"] = [record.chunks[0] + late]
        values["icl"] = list(np.diff(record.chunks))
        values["itl"] = token_gaps(record)
        values["ntpot"] = [record.e2e / record.tokens]
    each = tpot(record)
    if each is not None:
        values["tpot"] = [each]
    return values
