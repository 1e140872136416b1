"""Which adapter a requested model name stands for; never the base by mistake."""

from collections.abc import Sequence

from service.engine.protocol import Adapter, Engine
from service.errors import ConfigurationError, NotFound
from service.limits.quote import quote
from service.settings import AdapterSettings


class AdapterRegistry:
    """The base model and the loaded adapters by name."""

    def __init__(self, base_name: str) -> None:
        self._base_name = base_name
        self._adapters: dict[str, Adapter] = {}

    async def load(self, engine: Engine, configured: Sequence[AdapterSettings]) -> None:
        """Load the configured adapters into the engine.

        Raises ConfigurationError naming the adapter that is missing, named twice or refused.
        """
        for engine_id, wanted in enumerate(configured, start=1):
            if wanted.name == self._base_name or wanted.name in self._adapters:
                raise ConfigurationError(f"adapters: the name {wanted.name!r} is taken already")
            if not (wanted.path / "adapter_config.json").is_file():
                raise ConfigurationError(
                    f"adapter {wanted.name!r}: {wanted.path} holds no adapter_config.json"
                )
            adapter = Adapter(wanted.name, engine_id, str(wanted.path))
            await engine.load_adapter(adapter)
            self._adapters[wanted.name] = adapter

    def resolve(self, model: str) -> Adapter | None:
        """The adapter of that name, None for the base model; NotFound for any other name."""
        if model == self._base_name:
            return None
        if adapter := self._adapters.get(model):
            return adapter
        raise NotFound(
            f"model: {quote(model)} is not served here", code="model_not_found", param="model"
        )

    def all(self) -> list[Adapter]:
        """The loaded adapters, by name."""
        return [self._adapters[name] for name in sorted(self._adapters)]
