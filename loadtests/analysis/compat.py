"""Numbers of a run by the definitions of other tools, for comparison with published ones.

vllm       `vllm bench serve`: rates are over the time from the first send to the last end, the
           drain after the load too; the first chunk counts even if it only names the role; ITL
           are the gaps between chunks; TPOT = (e2e - ttft) / (tokens - 1)
guidellm   ITL is one number a request, (last - first content) / (tokens - 1), and TPOT is
           e2e / tokens
aiperf     what others call TPOT is its inter-token latency
"""

from collections.abc import Sequence

import numpy as np

from loadtests.protocol.record import Record

Block = dict[str, float]


def compat(records: Sequence[Record]) -> dict[str, Block]:
    """Mean, median and p99 in milliseconds by tool; as in these tools, also for few requests."""
    done = [r for r in records if r.ok and r.task == "generate" and r.chunks and r.e2e is not None]
    if not done:
        return {}
    duration_s = _duration(records)
    tokens = sum(record.tokens for record in done)
    prompt = sum(record.prompt_tokens or 0 for record in done)
    return {
        "vllm": {
            "request_throughput": len(done) / duration_s,
            "output_throughput": tokens / duration_s,
            "total_token_throughput": (tokens + prompt) / duration_s,
            **_block("ttft_ms", [_first(r) for r in done]),
            **_block("tpot_ms", [_tail(r, _first(r)) for r in done if r.tokens > 1]),
            **_block("itl_ms", [gap for r in done for gap in _gaps(r)]),
            **_block("e2el_ms", [r.e2e or 0.0 for r in done]),
        },
        "guidellm": {
            **_block("time_to_first_token_ms", [r.chunks[0] for r in done]),
            **_block(
                "inter_token_latency_ms",
                [(r.chunks[-1] - r.chunks[0]) / (r.tokens - 1) for r in done if r.tokens > 1],
            ),
            **_block("time_per_output_token_ms", [r.chunks[-1] / r.tokens for r in done]),
        },
        "aiperf": {
            **_block("time_to_first_token_ms", [r.chunks[0] for r in done]),
            **_block(
                "inter_token_latency_ms", [_tail(r, r.chunks[0]) for r in done if r.tokens > 1]
            ),
            **_block("request_latency_ms", [r.chunks[-1] for r in done]),
        },
    }


def _duration(records: Sequence[Record]) -> float:
    spans = [(r.sent, r.sent + (r.e2e or 0.0)) for r in records if r.sent is not None]
    return max(end for _, end in spans) - min(sent for sent, _ in spans)


def _first(record: Record) -> float:
    return record.chunks[0] if record.first_event is None else record.first_event


def _tail(record: Record, first: float) -> float:
    return ((record.e2e or 0.0) - first) / (record.tokens - 1)


def _gaps(record: Record) -> list[float]:
    first = _first(record)
    instants = record.chunks if first == record.chunks[0] else [first, *record.chunks]
    return list(np.diff(instants))


def _block(name: str, seconds: list[float]) -> Block:
    if not seconds:
        return {}
    values = np.asarray(seconds) * 1000
    return {
        f"mean_{name}": float(values.mean()),
        f"median_{name}": float(np.median(values)),
        f"p99_{name}": float(np.percentile(values, 99)),
    }
