"""Tenants' policies: the guards that judge requests before the model runs, and answers."""

from collections.abc import Sequence
from typing import Literal

from service.common.aio import gather
from service.context import RequestContext
from service.context.answer import Guarded
from service.errors import (
    DeadlineExceeded,
    GuardFailed,
    InputFlagged,
    InvalidRequest,
    OutputFlagged,
    QueueFull,
    ServiceError,
    TooManyRequests,
)
from service.plugins.guards.guards import GuardMetrics, Guards
from service.plugins.guards.held import TextGuard, sentences
from service.plugins.guards.settings import GuardsSettings, PolicySettings

Side = Literal["input", "output"]

Flags = Sequence[tuple[str, str]]
"""Pairs of a guard and a label that it flags."""


class Policies:
    """Applies each tenant's policy: its guards judge the tenant's requests and their answers."""

    def __init__(self, settings: GuardsSettings, guards: Guards, metrics: GuardMetrics) -> None:
        self._settings = settings
        self._guards = guards
        self.metrics = metrics

    def of(self, context: RequestContext) -> PolicySettings:
        """The policy of the request's tenant."""
        return self._settings.tenants.get(context.tenant.name, self._settings.default)

    async def check_input(
        self, texts: Sequence[str], policy: PolicySettings, context: RequestContext
    ) -> None:
        """Raise InputFlagged, naming guard and label, if the policy refuses a text.

        Otherwise records the flags in the request's context. Raises as `flags`.
        """
        found = await self.flags("input", texts, policy, context)
        flagged = list(dict.fromkeys(flag for flags in found for flag in flags))
        if flagged and policy.on != "flag":
            name, label = flagged[0]
            raise InputFlagged(f"The input was refused: the guard {name!r} found {label!r}")
        note(context, flagged)

    async def flags(
        self, side: Side, texts: Sequence[str], policy: PolicySettings, context: RequestContext
    ) -> list[Flags]:
        """For each text the guards of one side of the policy, and the labels that they flag.

        Raises GuardFailed, or the error of a full queue, for a guard that cannot read, unless the
        policy passes such texts. It always raises InvalidRequest for a text that is too long for a
        guard, TooManyRequests for the tenant's quota, and DeadlineExceeded.
        """
        names = policy.input if side == "input" else policy.output
        found = await gather(self._labels(side, name, texts, policy, context) for name in names)
        return [
            [(name, label) for name, of in zip(names, labels, strict=True) for label in of]
            for labels in zip(*found, strict=True)
        ]

    async def _labels(
        self,
        side: Side,
        name: str,
        texts: Sequence[str],
        policy: PolicySettings,
        context: RequestContext,
    ) -> Sequence[Sequence[str]]:
        """The labels that one guard flags in each text; none if it failed and the policy passes."""
        try:
            # A full queue must not end an answer that has begun.
            begun = side == "output"
            verdicts = await self._guards.read(name, texts, context, admitted=begun)
        except ServiceError as error:
            passes = policy.on_failure == "pass" and not isinstance(
                error, InvalidRequest | TooManyRequests | DeadlineExceeded
            )
            self.metrics.checked(side, name, "passed" if passes else "failed")
            if passes:
                return [()] * len(texts)
            raise _shown(side, name, error) from error
        flagged = [each.flagged for each in verdicts]
        self.metrics.checked(side, name, _kind(side, policy) if any(flagged) else "clear")
        return flagged


def _kind(side: Side, policy: PolicySettings) -> str:
    """The word for what a policy does with a text that a guard flags."""
    kinds = {"refuse": "refused", "flag": "flagged", "redact": "redacted"}
    return kinds["refuse" if side == "input" and policy.on == "redact" else policy.on]


def note(context: RequestContext, flagged: Flags) -> None:
    """Record in the request's context what guards found."""
    found = (f"{name}/{label}" for name, label in flagged)
    guarded = context.extended(Guarded)
    guarded.flags = tuple(dict.fromkeys((*guarded.flags, *found)))


def _shown(side: Side, name: str, error: ServiceError) -> ServiceError:
    """The error for the caller, who did not choose the guard's model and may not know of it."""
    if isinstance(error, TooManyRequests | DeadlineExceeded | QueueFull):
        return error
    if isinstance(error, InvalidRequest):
        return InvalidRequest(
            f"The {side} is longer than the guard {name!r} can read", code="guard_unreadable"
        )
    return GuardFailed(f"The guard {name!r} could not read the {side}", retry_after=5)


MARKER = "[redacted]"


class GuardedAnswer(TextGuard):
    """Applies the policy of a request's tenant to the answer.

    A flagged answer to a request with `tools` or a structure is refused if the policy is to redact,
    because it would not be valid with parts left out.
    """

    def __init__(
        self, policies: Policies, policy: PolicySettings, context: RequestContext, *, tools: bool
    ) -> None:
        self._policies = policies
        self._policy = policy
        self._context = context
        self._tools = tools

    async def read(self, text: str, *, structured: bool) -> str:
        redacts = self._policy.on == "redact" and not structured and not self._tools
        pieces = sentences(text) if redacts else [text]
        read = [each for each in pieces if each.strip()]
        found = await self._policies.flags("output", read, self._policy, self._context)
        flagged = [flag for flags in found for flag in flags]
        if not flagged:
            return text
        if self._policy.on == "flag":
            note(self._context, flagged)
            return text
        if not redacts:
            name, label = flagged[0]
            raise OutputFlagged(f"The answer was refused: the guard {name!r} found {label!r}")
        marked = {each for each, flags in zip(read, found, strict=True) if flags}
        return "".join(_marked(each) if each in marked else each for each in pieces)

    def held(self, seconds: float) -> None:
        self._policies.metrics.held(seconds)


def _marked(piece: str) -> str:
    """The marker, with the space around the piece."""
    begin, end = len(piece) - len(piece.lstrip()), len(piece.rstrip())
    return f"{piece[:begin]}{MARKER}{piece[end:]}"
