"""Settings of decisions: how the base model is asked, and when a question is refused."""

from pydantic import Field

from service.adapters.decisions import DecisionsRecord
from service.settings.adapters import PluginSection


class DecisionsSettings(PluginSection):
    """Closed questions, answered by probabilities (docs/typed-decisions.md)."""

    base: DecisionsRecord = Field(
        DecisionsRecord(),
        description="How the base model is asked, and its calibration: the section `decisions` of "
        "an adapter's manifest, which `llm-service calibrate-decisions --base` prints.",
    )
    refuse: bool = Field(
        False,
        description="Answer a question with `refusal` where the calibration does not single out "
        "an answer: below the adapter's `refuse_below`, or with another number of labels than one "
        "in its conformal set.",
    )
