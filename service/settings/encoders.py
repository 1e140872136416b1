"""Settings of the encoders."""

from pathlib import Path
from typing import Any

from pydantic import Field

from service.settings.section import Section, ServedName


class EncoderSettings(Section):
    """An encoder in an engine of its own: embeddings, scores of pairs, or a trained head's labels.

    The model's architecture decides which of the three it gives.
    """

    name: ServedName = Field(description="Name that requests use in `model`.")
    path: Path = Field(description="Folder of the encoder, relative to this file.")
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Digest that `model fetch` or `model pin` printed, as `model.digest`.",
    )
    engine: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's own arguments for this engine. The `gpu_memory_utilization` of all "
        "engines together is at most 1.",
    )
    truncate: bool = Field(
        False,
        description="Cut texts longer than the context where a request does not say; else refuse "
        "them.",
    )
    prompts: dict[str, str] | None = Field(
        None,
        description="Texts put before inputs, by a request's `input_type`; default those of "
        "config_sentence_transformers.json.",
    )
    max_in_flight: int | None = Field(
        None,
        ge=1,
        description="Inputs in this engine at once; default its `max_num_seqs`.",
    )
    required: bool = Field(
        True,
        description="If it cannot start: true ends the start, false answers its requests with 503.",
    )
