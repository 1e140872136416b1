"""The dashboard of the tenants: requests, waits and the fairness of shares."""

from deploy.grafana.panel import Page, Panel, Query, Row, Unit, quantiles, rate

_TOKENS = rate("inference_tokens_total", "tenant", 'kind="completion", tenant!="service"')
_PROMISED = rate("inference_slo_requests_total", "tenant")

USE = Row(
    "Use",
    (
        Panel(
            "Requests",
            "By tenant.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_requests_total", "tenant"), "{{tenant}}"),),
        ),
        Panel(
            "Completion tokens",
            "By tenant.",
            Unit.TOKENS_PER_SECOND,
            (Query(_TOKENS, "{{tenant}}"),),
        ),
        Panel(
            "Prompt tokens",
            "By tenant, cached tokens included.",
            Unit.TOKENS_PER_SECOND,
            (Query(rate("inference_tokens_total", "tenant", 'kind="prompt"'), "{{tenant}}"),),
        ),
        Panel(
            "Share of the completion tokens",
            "Each tenant's part of the engine's output.",
            Unit.SHARE,
            (Query(f"{_TOKENS} / ignoring (tenant) group_left () sum({_TOKENS})", "{{tenant}}"),),
        ),
    ),
)

FAIRNESS = Row(
    "Fairness",
    (
        Panel(
            "Waiting",
            "Requests before admission.",
            Unit.COUNT,
            (
                Query(
                    'sum by (tenant) (inference_requests_queued{job=~"$job"})',
                    "{{tenant}}",
                ),
                Query(
                    'sum by (tenant) (inference_flex_requests_queued{job=~"$job"})',
                    "{{tenant}} flex",
                ),
            ),
        ),
        Panel(
            "Wait for admission",
            "Wait of engine requests for their slots.",
            Unit.SECONDS,
            quantiles("inference_queue_time_seconds", "tenant", 0.5, 0.95),
        ),
        Panel(
            "Time to first token",
            "From a request's arrival, waiting included.",
            Unit.SECONDS,
            quantiles("inference_time_to_first_token_seconds", "tenant", 0.5, 0.95),
        ),
        Panel(
            "Evenness of the shares",
            "Jain's index over the tenants that get tokens: 1 where all get the same, 1/n where "
            "one of n gets all. Weights that differ make it less than 1.",
            Unit.COUNT,
            (
                Query(
                    f"sum({_TOKENS} > 0) ^ 2 / (count({_TOKENS} > 0) * sum(({_TOKENS} > 0) ^ 2))",
                    "evenness",
                ),
            ),
        ),
    ),
)

LIMITS = Row(
    "Refusals and quotas",
    (
        Panel(
            "Refusals",
            "By tenant and reason.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_refusals_total", "tenant, reason"), "{{tenant}} {{reason}}"),),
        ),
        Panel(
            "Deadlines missed",
            "By tenant.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_deadline_misses_total", "tenant"), "{{tenant}}"),),
        ),
        Panel(
            "Good requests",
            "Share of the requests with objectives that met all of them.",
            Unit.SHARE,
            (
                Query(
                    f"{rate('inference_goodput_total', 'tenant')} / ({_PROMISED} > 0)",
                    "{{tenant}}",
                ),
            ),
        ),
        Panel(
            "Quota store errors",
            "Failures of the quota store over five minutes.",
            Unit.COUNT,
            (
                Query(
                    'sum by (reason) (increase(inference_quota_store_errors_total{job=~"$job"}'
                    "[5m]))",
                    "{{reason}}",
                ),
            ),
        ),
        Panel(
            "Key files read",
            "Reads of changed keys files over an hour.",
            Unit.COUNT,
            (
                Query(
                    'sum by (outcome) (increase(inference_key_reloads_total{job=~"$job"}[1h]))',
                    "{{outcome}}",
                ),
            ),
        ),
    ),
)

PAGE = Page("tenants-fairness", "Inference: tenants and fairness", (USE, FAIRNESS, LIMITS))
