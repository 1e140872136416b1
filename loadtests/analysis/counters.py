"""The server's own counters, from the Prometheus text of its metrics port."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

# Routes of the load's requests; probes and lists of models are not counted.
_ROUTES = (
    *("/v1/generate", "/v1/classify", "/v1/embeddings"),
    *("/v1/chat/completions", "/v1/completions"),
)

# This service's names first, because it also shows the engine's series.
_WORDS = {
    "inference": ("inference_requests_total", "inference_tokens_total:completion"),
    "vllm": ("vllm:request_success_total", "vllm:generation_tokens_total"),
}


# Series that a run follows: the names of the gauges, and their names in the report.
GAUGES = {
    "inference_requests_in_flight": "admitted",
    "inference_requests_queued": "waiting for admission",
    "vllm:num_requests_running": "running in the engine",
    "vllm:num_requests_waiting": "waiting in the engine",
    "vllm:kv_cache_usage_perc": "KV cache used",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of a server, and the prefix of its series: `inference` (this service) or `vllm`.

    vLLM counts each prompt of a body as a request, and counts a request only when it ends.
    """

    words: str
    requests: float = 0.0
    completion_tokens: float = 0.0


def read_counters(text: str) -> list[Counters]:
    """The counters of a metrics page, for each series prefix found in it."""
    sums: dict[str, float] = {}
    known: set[str] = set()
    for family in text_string_to_metric_families(text):
        known.add(family.name)
        for sample in family.samples:
            if sample.labels.get("route", _ROUTES[0]) in _ROUTES:
                for key in (sample.name, f"{sample.name}:{sample.labels.get('kind')}"):
                    sums[key] = sums.get(key, 0.0) + sample.value
    return [
        Counters(words, sums.get(requests, 0.0), sums.get(tokens, 0.0))
        for words, (requests, tokens) in _WORDS.items()
        if requests.removesuffix("_total") in known
    ]


def read_gauges(text: str) -> list[tuple[str, float]]:
    """The gauges that are followed, each summed over its labels."""
    return [
        (family.name, sum(sample.value for sample in family.samples))
        for family in text_string_to_metric_families(text)
        if family.name in GAUGES
    ]


def counted(start: str, end: str) -> Counters | None:
    """The increase between two readings of a metrics page; None if it has no such counter."""
    before = {counters.words: counters for counters in read_counters(start)}
    for after in read_counters(end):
        base = before.get(after.words, Counters(after.words))
        return Counters(
            after.words,
            after.requests - base.requests,
            after.completion_tokens - base.completion_tokens,
        )
    return None
