"""Prompts with more `max_tokens` than the context leaves, on a vLLM that refuses them."""

from vllm.renderers.params import TokenizeParams

from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM refuses a prompt that leaves less than max_tokens, which it lowers later",
    until="0.32.0",
)

USES = ("replaces vllm.renderers.params:TokenizeParams.max_input_tokens",)


def lower_max_tokens() -> None:
    """Have `max_tokens` lowered to what the context leaves, where vLLM would refuse the request.

    Up to 0.31 a prompt may be as long as the context less `max_tokens`; later it may be as long as
    the context, and `max_tokens` is lowered. So it is lowered in both.
    """
    if TokenizeParams(max_total_tokens=2, max_output_tokens=1).max_input_tokens == 1:
        TokenizeParams.max_input_tokens = property(_whole)


def _whole(params: TokenizeParams) -> int | None:
    tokens: int | None = params.max_total_tokens
    return tokens
