"""Settings of decisions: how the base model is asked, and when a question is refused."""

from pydantic import Field

from service.adapters.decisions import DecisionsRecord
from service.settings.adapters import PluginSection


class DecisionsSettings(PluginSection):
    """Closed questions, answered by probabilities (docs/typed-decisions.md)."""

    base: DecisionsRecord = Field(
        DecisionsRecord(),
        description="How the base model is asked, and its calibration, as `llm-service "
        "calibrate-decisions --base` prints it.",
    )
    refuse: bool = Field(
        False,
        description="Answer a question with `refusal` where the calibration does not single out an "
        "answer.",
    )
