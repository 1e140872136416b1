"""Shepherd's model gateway before the service, as its only worker."""

from gateway import try_router

ONE = ("No worker available for model", "smg registers only the first model of a worker")
NO_ROUTE = ("Invalid URL", "smg has no such route")
FAULTS = {
    "tool call of an adapter": ONE,
    "embeddings": ONE,
    "list of models": ("AssertionError", ONE[1]),
    "/v1/classify of an adapter": ONE,
    "/v1/classify with labels": ("candidate_labels: required", "smg drops `candidate_labels`"),
    "/v1/rerank": ("model: 'unknown' is not served", "smg replaces the model by `unknown`"),
    "/v1/generate": NO_ROUTE,
}
try_router(["smg", "launch"], FAULTS)
