"""The validation of structures in vLLM's client, which would hold the event loop for seconds."""

from typing import Any

from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM's client compiles structures on the event loop, for seconds",
)

USES = ("replaces vllm.v1.engine.input_processor:InputProcessor.structured_outputs_config",)


def leave_validation_to_us(llm: Any) -> None:
    """Keep vLLM from converting structures again, which the service has compiled."""
    llm.input_processor.structured_outputs_config = None


def without_special_tokens(tokenizer: Any, tokens: Any) -> Any | None:
    """The tokens with which the engine compiles all but structural tags; None if with all.

    From 0.33 on, vLLM has another compiler for these structures, without special tokens.
    """
    filtered = getattr(XgrammarBackend, "_filter_special_tokens", None)
    return filtered and filtered(tokenizer, tokens)
