"""The dashboard of the service: objectives met, and the causes of misses."""

from deploy.grafana.panel import Page, Panel, Query, Row, Unit, quantiles, rate

_JOB = '{job=~"$job"}'

OBJECTIVES = Row(
    "Objectives",
    (
        Panel(
            "Good requests",
            "Share of the requests with objectives that met all of them; the goal is 95 %.",
            Unit.SHARE,
            (Query(f"1 - job_model:inference_goodput_misses:ratio_rate5m{_JOB}", "{{model}}"),),
        ),
        Panel(
            "Burn of the budgets",
            "Use of the month's budgets over 1 h, as a multiple of the sustainable rate.",
            Unit.COUNT,
            (
                Query(
                    f"job_model:inference_goodput_misses:ratio_rate1h{_JOB} / 0.05",
                    "goodput {{model}}",
                ),
                Query(
                    f"job_model:inference_availability_misses:ratio_rate1h{_JOB} / 0.005",
                    "errors {{model}}",
                ),
            ),
        ),
        Panel(
            "Objectives missed",
            "By objective; a request may miss several.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_slo_misses_total", "objective"), "{{objective}}"),),
        ),
        Panel(
            "Requests by outcome",
            "How requests ended.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_requests_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            "Refusals by reason",
            "By reason of the refusal.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_refusals_total", "reason"), "{{reason}}"),),
        ),
        Panel(
            "Alerts",
            "Alerts that fire.",
            Unit.COUNT,
            (
                Query(
                    'count by (alertname) (ALERTS{alertname=~"Inference.*", alertstate="firing"})',
                    "{{alertname}}",
                ),
            ),
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first token",
            "From a request's arrival to its first token, waiting included.",
            Unit.SECONDS,
            quantiles("inference_time_to_first_token_seconds", "route", 0.5, 0.95, 0.99),
        ),
        Panel(
            "Time per output token",
            "Per token after the first, over a whole request.",
            Unit.SECONDS,
            quantiles("inference_time_per_output_token_seconds", "model", 0.5, 0.95),
        ),
        Panel(
            "Between two tokens",
            "Time between two tokens of a stream, as its reader sees it.",
            Unit.SECONDS,
            quantiles("inference_inter_token_latency_seconds", "model", 0.5, 0.99),
        ),
        Panel(
            "Whole request",
            "From a request's arrival to the end of its answer.",
            Unit.SECONDS,
            quantiles("inference_request_duration_seconds", "route", 0.5, 0.95),
        ),
        Panel(
            "Wait for admission",
            "Wait of engine requests for their slots.",
            Unit.SECONDS,
            quantiles("inference_queue_time_seconds", "model", 0.5, 0.95),
        ),
    ),
)

ENGINE = Row(
    "Capacity and engine",
    (
        Panel(
            "Running",
            "Sequences in the engine, and their limit.",
            Unit.COUNT,
            (
                Query(
                    f"sum by (engine, instance) (inference_requests_in_flight{_JOB})",
                    "running {{engine}} {{instance}}",
                ),
                Query(
                    f"sum by (engine, instance) (inference_admission_limit{_JOB})",
                    "limit {{engine}} {{instance}}",
                ),
            ),
        ),
        Panel(
            "Waiting",
            "Requests before admission.",
            Unit.COUNT,
            (Query(f"instance:inference_requests_queued:sum{_JOB}", "{{instance}}"),),
        ),
        Panel(
            "Tokens",
            "Prompt tokens include the cached ones.",
            Unit.TOKENS_PER_SECOND,
            (Query(rate("inference_tokens_total", "kind"), "{{kind}}"),),
        ),
        Panel(
            "KV cache in use",
            "vLLM's own series.",
            Unit.SHARE,
            (Query(f"vllm:kv_cache_usage_perc{_JOB}", "{{instance}}"),),
        ),
        Panel(
            "Age of the engine's last step",
            "While something runs.",
            Unit.SECONDS,
            (Query(f"inference_engine_progress_age_seconds{_JOB}", "{{engine}} {{instance}}"),),
        ),
        Panel(
            "Replicas stalled or draining",
            "Stalled by the watchdog; draining after a signal or `POST /drain`.",
            Unit.COUNT,
            (
                Query(f"sum by (job) (inference_engine_stalled{_JOB})", "stalled"),
                Query(f"sum by (job) (inference_draining{_JOB})", "draining"),
            ),
        ),
        Panel(
            "Drains",
            "Time that a replica has been draining, and its limit.",
            Unit.SECONDS,
            (
                Query(f"inference_drain_seconds{_JOB}", "took {{instance}}"),
                Query(f"inference_drain_budget_seconds{_JOB}", "may take {{instance}}"),
            ),
        ),
        Panel(
            "Versions",
            "Replicas by the service's version and the base model's digest.",
            Unit.COUNT,
            (
                Query(
                    f"count by (version, model, digest) (inference_build_info{_JOB})",
                    "{{version}} {{model}} {{digest}}",
                ),
            ),
        ),
    ),
)

GPUS = Row(
    "GPUs, where DCGM's exporter is scraped",
    (
        Panel(
            "GPU busy",
            "Share of the time in which some kernel ran.",
            Unit.SHARE,
            (Query("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL) / 100", "{{Hostname}} {{gpu}}"),),
        ),
        Panel(
            "GPU memory in use",
            "vLLM takes its share at the start, and it stays there.",
            Unit.SHARE,
            (
                Query(
                    "max by (Hostname, gpu) "
                    "(DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE))",
                    "{{Hostname}} {{gpu}}",
                ),
            ),
        ),
        Panel(
            "GPU errors",
            "Number of the last XID error; 0 if there was none.",
            Unit.COUNT,
            (Query("max by (Hostname, gpu) (DCGM_FI_DEV_XID_ERRORS)", "{{Hostname}} {{gpu}}"),),
        ),
    ),
)

PAGE = Page(
    "service-objectives", "Inference: service objectives", (OBJECTIVES, LATENCY, ENGINE, GPUS)
)
