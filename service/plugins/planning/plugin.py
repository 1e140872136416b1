"""Planning as a plugin: checks the engine's memory before the engine starts."""

from typing import Any

from service.plugin import Plugin
from service.plugins.planning.estimate import table
from service.plugins.planning.memory import refuse_unfit
from service.settings.tree import Settings


class PlanningPlugin(Plugin):
    """Refuses a configuration whose weights, adapters and KV cache cannot fit."""

    @classmethod
    def check_engine(cls, config: Any, settings: Settings) -> str | None:
        estimate = refuse_unfit(config, settings)
        return "memory: not estimated" if estimate is None else table(estimate)
