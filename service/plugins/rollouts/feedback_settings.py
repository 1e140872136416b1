"""Settings of feedback: the key of answers' ids, and what follows from ratings."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from service.settings.adapters import PluginSection


class FeedbackSettings(PluginSection):
    """Ratings of answers by their callers."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret that encrypts the ids of answers, at least 32 characters, so that "
        "every replica with the same one takes feedback on the others' answers. Without a key "
        "each replica makes its own. Put it into `LLM_SERVICE_FEEDBACK__KEY`, or into `key_file`.",
    )
    key_file: Path | None = Field(
        None,
        description="File that holds this secret, 32 to 4096 bytes without the line's end, "
        "relative to this file.",
    )

    adaptive_sets: bool = Field(
        False,
        description="Move an adapter's conformal level by the true labels that feedback gives, so "
        "that its label sets keep the promised coverage where inputs shift. Answers depend on "
        "earlier ratings then.",
    )
    adaptive_step: float = Field(
        0.005,
        gt=0,
        le=0.1,
        description="Step of the level for each true label: larger ones follow a shift faster, and "
        "the sets vary more.",
    )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("key_file: only one of `key` and `key_file` may be given")
        return self
