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
        description="vLLM's own arguments for this encoder's engine. The shares "
        "`gpu_memory_utilization` of all engines must be at most 1 together.",
    )
    truncate: bool = Field(
        False,
        description="Cut texts that are longer than its context where a request does not say; "
        "else refuse them.",
    )
    prompts: dict[str, str] | None = Field(
        None,
        description="Texts put before inputs, by the `input_type` of a request; default those of "
        "the folder's config_sentence_transformers.json.",
    )
    max_in_flight: int | None = Field(
        None,
        ge=1,
        description="Inputs in this engine at once; default its `max_num_seqs`. The other settings "
        "of `admission` hold for every engine.",
    )
    required: bool = Field(
        True,
        description="If it cannot start: true ends the start, false serves the others and answers "
        "requests for this one with 503.",
    )
