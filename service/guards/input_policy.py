"""Policies of tenants for the texts that a model is about to read."""

from collections.abc import Sequence

from service.context import RequestContext
from service.errors import (
    DeadlineExceeded,
    GuardFailed,
    InputFlagged,
    InvalidRequest,
    QueueFull,
    ServiceError,
    TooManyRequests,
)
from service.guards.guards import Guards
from service.settings.guards import GuardsSettings, PolicySettings
from service.telemetry.guards import GuardMetrics
from service.together import together


class InputPolicy:
    """Has the guards of a tenant's policy read a request's texts before the model does."""

    def __init__(self, settings: GuardsSettings, guards: Guards, metrics: GuardMetrics) -> None:
        self._settings = settings
        self._guards = guards
        self._metrics = metrics

    def of(self, context: RequestContext) -> PolicySettings | None:
        """The policy of the request's tenant; None if no guard reads its texts."""
        own = self._settings.tenants.get(context.tenant.name, self._settings.default)
        return own if own.input else None

    async def check(
        self, texts: Sequence[str], policy: PolicySettings, context: RequestContext
    ) -> None:
        """Raise for texts that the policy refuses, and note in the context what it only flags.

        InputFlagged names the guard and the label. GuardFailed, and the errors of a full gate, are
        for a guard that could not read; a text that no guard can read, being too long, is always
        refused, and the request's own quota and deadline hold.
        """
        names = policy.input
        found = await together(self._labels(name, texts, policy, context) for name in names)
        flagged = [(name, label) for name, of in zip(names, found, strict=True) for label in of]
        if flagged and policy.on == "refuse":
            name, label = flagged[0]
            raise InputFlagged(f"The input was refused: the guard {name!r} found {label!r}")
        context.guard_flags = tuple(f"{name}/{label}" for name, label in flagged)

    async def _labels(
        self, name: str, texts: Sequence[str], policy: PolicySettings, context: RequestContext
    ) -> Sequence[str]:
        """The labels that the guard flags in any of the texts; none if it failed and may."""
        try:
            verdicts = await self._guards.read(name, texts, context)
        except ServiceError as error:
            passes = policy.on_failure == "pass" and not isinstance(
                error, InvalidRequest | TooManyRequests | DeadlineExceeded
            )
            self._metrics.checked(name, "passed" if passes else "failed")
            if passes:
                return ()
            raise _shown(name, error) from error
        flagged = list(dict.fromkeys(label for each in verdicts for label in each.flagged))
        kind = "refused" if policy.on == "refuse" else "flagged"
        self._metrics.checked(name, kind if flagged else "clear")
        return flagged


def _shown(name: str, error: ServiceError) -> ServiceError:
    """The error of a guard in a request that did not name the guard's model."""
    if isinstance(error, TooManyRequests | DeadlineExceeded | QueueFull):
        return error
    if isinstance(error, InvalidRequest):
        return InvalidRequest(
            f"The input is longer than the guard {name!r} can read", code="guard_unreadable"
        )
    return GuardFailed(f"The guard {name!r} could not read the input", retry_after=5)
