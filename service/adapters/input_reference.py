"""The `reference` section of a manifest: histograms of typical inputs."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from service.adapters.strict import Strict

_Count = Annotated[int, Field(ge=0)]


class InputReference(Strict):
    """Inputs of typical traffic, counted by `llm-service calibrate-drift`.

    `labels` are the best ones, `scores` their probabilities, `lengths` characters; the bins are
    those of `engine.reference`.
    """

    labels: Annotated[Mapping[str, _Count], Field(min_length=1)]
    scores: Annotated[tuple[_Count, ...], Field(min_length=12, max_length=12)]
    lengths: Annotated[tuple[_Count, ...], Field(min_length=11, max_length=11)]
