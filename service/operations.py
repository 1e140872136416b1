"""Operations that requests ask for, by path, as the conventions for generative AI name them."""

from collections.abc import Mapping

OPERATIONS: Mapping[str, str | None] = {
    "/v1/chat/completions": "chat",
    "/v1/classify": "classify",
    "/v1/completions": "text_completion",
    "/v1/detokenize": None,
    "/v1/generate": "text_completion",
    "/v1/tokenize": None,
}
"""Every route that takes a body; None for one that asks the engine for nothing.

Objectives are promised, and spans say what was asked and used, for the others only.
"""
