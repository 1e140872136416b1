"""The `guard` section of a manifest: a threshold that few harmless texts reach."""

from typing import Annotated

from pydantic import Field

from service.adapters.strict import Strict

_Share = Annotated[float, Field(gt=0, lt=1)]


class GuardBound(Strict):
    """At most a share `alpha` of harmless texts has a label of these at the threshold or above.

    `llm-service calibrate-guard` showed it with this `confidence` by so many harmless `lines`.
    """

    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    threshold: Annotated[float, Field(gt=0, le=1)]
    alpha: _Share
    confidence: _Share
    lines: Annotated[int, Field(ge=1)]

    @property
    def of_labels(self) -> tuple[tuple[str, ...], float]:
        """The labels with the threshold, as a classifier shows them."""
        return self.labels, self.threshold
