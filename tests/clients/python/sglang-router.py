"""SGLang's router before the service, as its only worker."""

from gateway import try_router

PULL = "[sglang#21571](https://github.com/sgl-project/sglang/pull/21571)"
ISSUE = "[sglang#15240](https://github.com/sgl-project/sglang/issues/15240)"
DROPPED = f"sglang-router drops what it does not know, {PULL}"
NO_ROUTE = ("404", "sglang-router has no such route")
FAULTS = {
    "list of models": ("unknown", f"sglang-router lists `unknown`, {ISSUE}"),
    "message, by Anthropic's API": NO_ROUTE,
    "choice of structured_outputs": ("no 'Lima'", DROPPED),
    "/v1/classify with labels": ("candidate_labels: required", DROPPED),
    "/v1/rerank": (
        "model: 'unknown' is not served",
        "sglang-router replaces the model by `unknown`",
    ),
    "/v1/generate": NO_ROUTE,
}
try_router(["sglang_router", "launch"], FAULTS)
