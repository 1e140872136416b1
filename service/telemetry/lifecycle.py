"""Prometheus series of the process: its build and its drain."""

import time
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry

from service.engine.pooling import EncoderInfo
from service.engine.protocol import ModelInfo
from service.telemetry.series import SeriesFactory

_PACKAGE = "llm-service"


class LifecycleMetrics:
    """Shows the drain and the build."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = (
            "The service's version, and its base model's name and digest, if it has one; always 1."
        )
        self._build = make.gauge("build_info", text, "version", "model", "digest")
        text = (
            "vLLM's version, and the client by which the service reaches it: `fast`, or `stock`, "
            "vLLM's public one; always 1."
        )
        self._client = make.gauge("engine_client_info", text, "vllm", "client")
        text = "Task and digest of an encoder; always 1."
        self._encoder = make.gauge("encoder_info", text, "model", "task", "digest")
        text = "1 while the service drains."
        self._draining = make.gauge("draining", text)
        text = "Seconds that the drain has taken so far, or took; 0 before it."
        make.gauge("drain_seconds", text).set_function(self.drain_seconds)
        text = "Seconds after which the drain ends the remaining requests."
        self._budget = make.gauge("drain_budget_seconds", text)
        self._began: float | None = None
        self._took: float | None = None

    def built(self, model: ModelInfo | None) -> None:
        """Show the version, and the base model that is served; None for encoders alone."""
        name, digest = ("", "") if model is None else (model.name, model.digest)
        self._build.labels(package_version(), name, digest).set(1)
        if model is not None and model.client:
            self._client.labels(model.vllm, model.client).set(1)

    def encoder_built(self, info: EncoderInfo) -> None:
        """Show an encoder that is served."""
        self._encoder.labels(info.name, info.task, info.digest).set(1)

    def drain_started(self, budget: float) -> None:
        """Note that the drain begins and may take so many seconds."""
        self._budget.set(budget)
        self._began = self._began or time.monotonic()
        self._draining.set(1)

    def drain_ended(self) -> None:
        """Note that the last request has ended, or is ended."""
        self._took = self.drain_seconds()
        self._draining.set(0)

    def drain_seconds(self) -> float:
        """Seconds from the drain's start to its end, or to now."""
        if self._took is not None:
            return self._took
        return 0.0 if self._began is None else time.monotonic() - self._began


def package_version() -> str:
    """The installed service's version, `unknown` where it runs without being installed."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return "unknown"
