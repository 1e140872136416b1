"""The dashboard of the adapters: states, proofs, traffic and classifications."""

from deploy.grafana.panel import Page, Panel, Query, Row, Unit, quantiles, rate

_JOB = '{job=~"$job"}'
_CACHED, _PROMPT = 'kind="cached"', 'kind="prompt"'
_INPUTS = rate("inference_classification_score_count", "model")

ADAPTERS = Row(
    "Adapters",
    (
        Panel(
            "State",
            "Replicas by the adapter's state.",
            Unit.COUNT,
            (
                Query(
                    f"sum by (adapter, state) (inference_adapter_state{_JOB})",
                    "{{adapter}} {{state}}",
                ),
            ),
        ),
        Panel(
            "Versions",
            "Replicas by adapter, version and digest.",
            Unit.COUNT,
            (
                Query(
                    f"count by (adapter, version, digest) (inference_adapter_info{_JOB})",
                    "{{adapter}} {{version}} {{digest}}",
                ),
            ),
        ),
        Panel(
            "Resident",
            "Replicas whose engine holds the adapter's weights.",
            Unit.COUNT,
            (Query(f"sum by (adapter) (inference_adapter_resident{_JOB})", "{{adapter}}"),),
        ),
        Panel(
            "Proof",
            "Share of an adapter's golden examples that it answered correctly.",
            Unit.SHARE,
            (Query(f"min by (adapter) (inference_adapter_proof_accuracy{_JOB})", "{{adapter}}"),),
        ),
        Panel(
            "Load and proof",
            "Time of each.",
            Unit.SECONDS,
            (
                Query(
                    f"max by (adapter) (inference_adapter_load_seconds{_JOB})", "load {{adapter}}"
                ),
                Query(
                    f"max by (adapter) (inference_adapter_proof_seconds{_JOB})", "proof {{adapter}}"
                ),
            ),
        ),
        Panel(
            "Reloads",
            "Over an hour, by outcome.",
            Unit.COUNT,
            (
                Query(
                    f"sum by (outcome) (increase(inference_adapter_reloads_total{_JOB}[1h]))",
                    "{{outcome}}",
                ),
            ),
        ),
    ),
)

RELEASES = Row(
    "Releases",
    (
        Panel(
            "Release state",
            "Replicas by the state of the adapter's planned version.",
            Unit.COUNT,
            (
                Query(
                    f"sum by (adapter, state) (inference_release_state{_JOB})",
                    "{{adapter}} {{state}}",
                ),
            ),
        ),
        Panel(
            "Release share",
            "Share, from 0 to 1, of the requests that the next version answers, at most.",
            Unit.COUNT,
            (Query(f"max by (adapter) (inference_release_share{_JOB})", "{{adapter}}"),),
        ),
        Panel(
            "Judged by releases",
            "Requests by the version that answered, and pairs of the shadow, compared or dropped.",
            Unit.REQUESTS_PER_SECOND,
            (
                Query(
                    rate("inference_release_requests_total", "adapter, arm"), "{{adapter}} {{arm}}"
                ),
                Query(
                    rate("inference_release_shadow_total", "adapter, result"),
                    "{{adapter}} shadow {{result}}",
                ),
            ),
        ),
    ),
)

USE = Row(
    "Use",
    (
        Panel(
            "Requests",
            "By model or adapter.",
            Unit.REQUESTS_PER_SECOND,
            (Query(rate("inference_requests_total", "model"), "{{model}}"),),
        ),
        Panel(
            "Tokens",
            "Prompts and completions, by model.",
            Unit.TOKENS_PER_SECOND,
            (
                Query(
                    rate("inference_tokens_total", "model", 'kind=~"prompt|completion"'),
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Prompt tokens from the cache",
            "Share of all prompt tokens, by model.",
            Unit.SHARE,
            (
                Query(
                    f"{rate('inference_tokens_total', 'model', _CACHED)} / "
                    f"({rate('inference_tokens_total', 'model', _PROMPT)} > 0)",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Time to first token",
            "By model.",
            Unit.SECONDS,
            quantiles("inference_time_to_first_token_seconds", "model", 0.5, 0.95),
        ),
    ),
)

CLASSIFICATION = Row(
    "Classification",
    (
        Panel(
            "Inputs",
            "Texts classified, by model.",
            Unit.REQUESTS_PER_SECOND,
            (Query(_INPUTS, "{{model}}"),),
        ),
        Panel(
            "Labels given",
            "An adapter's labels by name, labels from requests as `other`.",
            Unit.REQUESTS_PER_SECOND,
            (
                Query(
                    rate("inference_classifications_total", "model, label"), "{{model}} {{label}}"
                ),
            ),
        ),
        Panel(
            "Abstentions",
            "Share of the inputs that got no label.",
            Unit.SHARE,
            (
                Query(
                    f"{rate('inference_classification_abstentions_total', 'model')} / "
                    f"({_INPUTS} > 0)",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Drift of the abstentions",
            "The share of the last half hour minus that of the day; an alert fires above 15 "
            "points.",
            Unit.SHARE,
            (
                Query(
                    f"job_model:inference_classification_abstentions:ratio30m{_JOB} - "
                    f"job_model:inference_classification_abstentions:ratio1d{_JOB}",
                    "{{model}}",
                ),
            ),
            signed=True,
        ),
        Panel(
            "Drift of the inputs (PSI)",
            "Distance of the latest inputs from the model's reference; an alert fires above 0.25.",
            Unit.COUNT,
            (Query(f"max by (model, of) (inference_drift_psi{_JOB})", "{{model}} {{of}}"),),
        ),
        Panel(
            "Drift of the inputs (KS)",
            "Largest difference of the cumulative shares; an alert fires above 0.2.",
            Unit.COUNT,
            (Query(f"max by (model, of) (inference_drift_ks{_JOB})", "{{model}} {{of}}"),),
        ),
        Panel(
            "Score of the best label",
            "Probability of an input's best label; quantiles over the inputs.",
            Unit.SHARE,
            quantiles("inference_classification_score", "model", 0.1, 0.5, 0.9),
        ),
        Panel(
            "Reads an input",
            "Engine requests for an input, on average.",
            Unit.COUNT,
            (
                Query(
                    f"{rate('inference_classification_reads_sum', 'model')} / "
                    f"({rate('inference_classification_reads_count', 'model')} > 0)",
                    "{{model}}",
                ),
            ),
        ),
    ),
)

PAGE = Page(
    "adapters-classification",
    "Inference: adapters and classification",
    (ADAPTERS, RELEASES, USE, CLASSIFICATION),
)
