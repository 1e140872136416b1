"""All engines of one service on vLLM: the model's, then those of the encoders."""

from collections.abc import Mapping

from service.admission.admitted import StreamObserver
from service.admission.gate import Gate
from service.settings.encoders import EncoderSettings
from service.settings.gate import PreparationSettings
from service.settings.tree import Settings
from service.vllm.encoder.engine import EncoderObserver, VllmEncoder
from service.vllm.encoder.start import (
    CheckedEncoder,
    check_encoder,
    check_encoders,
    start_encoder,
)
from service.vllm.interruptible import interruptible
from service.vllm.start import VllmModel, start_vllm


class VllmEngines:
    """Starts the engines.

    The encoders' files are checked once, before the model's engine starts: that takes most of the
    time, and a file that must be refused is refused before.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._checked: dict[str, CheckedEncoder] | None = None

    async def start_model(
        self, settings: Settings, gate: Gate, observer: StreamObserver
    ) -> VllmModel:
        """Start the model's engine; raises as `check_encoders` and `start_vllm`."""
        self._check()
        return await start_vllm(settings, gate, observer)

    async def start_encoder(
        self,
        encoder: EncoderSettings,
        gate: Gate,
        observer: EncoderObserver,
        preparation: PreparationSettings,
    ) -> VllmEncoder:
        """Start an encoder's engine; ConfigurationError, naming it, if it cannot start."""
        checked = self._check().get(encoder.name)
        if checked is None:
            with interruptible():
                checked = check_encoder(encoder)
        beside = self._settings.model is not None
        return await start_encoder(
            encoder, checked, gate, observer, preparation, beside_model=beside
        )

    def _check(self) -> Mapping[str, CheckedEncoder]:
        """The encoders that must start, by name; their files are checked at the first call."""
        if self._checked is None:
            with interruptible():
                self._checked = check_encoders(self._settings)
        return self._checked
