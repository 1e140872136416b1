"""The operation of a request by its path, named as in the conventions for generative AI."""

OPERATIONS: dict[str, str | None] = {
    "/detokenize": None,
    "/tokenize": None,
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/render": None,
    "/v1/classify": "classify",
    "/v1/completions": "text_completion",
    "/v1/completions/render": None,
    "/v1/detokenize": None,
    "/v1/embeddings": "embeddings",
    "/v1/generate": "text_completion",
    "/v1/rerank": "rerank",
    "/v1/score": "score",
    "/v1/tokenize": None,
    "/v2/rerank": "rerank",
}
"""Every route that takes a body; None for a route without engine work.

A route with None has no objectives, and its spans no attributes of the request and its usage.
Plugins add those of their own.
"""
