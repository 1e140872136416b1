"""Judgement of a request against its objectives."""

from typing import NamedTuple

from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.settings.telemetry import ObjectiveSettings, SloSettings
from service.tenants.tenant import Tier

AVAILABILITY = "availability"

_SERVICE_FAULTS = ("error", "deadline")
_TENANTS_OWN = (401, 403, 409, 429)


class Limits(NamedTuple):
    """Largest milliseconds to the first token, per later token, and in all; None is no limit."""

    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


class Objectives:
    """The objectives of requests: their model's, else their route's, else the general ones."""

    def __init__(self, slo: SloSettings) -> None:
        self._slo = slo
        self._known: dict[tuple[str, str], Limits] = {}

    def of(self, route: str, model: str) -> Limits:
        """Objectives of a request of this route and model."""
        limits = self._known.get((route, model))
        if limits is None:
            limits = self._known[route, model] = self._find(route, model)
        return limits

    def _find(self, route: str, model: str) -> Limits:
        levels: list[ObjectiveSettings] = [
            level
            for level in (self._slo.models.get(model), self._slo.routes.get(route), self._slo)
            if level is not None
        ]
        return Limits(
            next((level.ttft_ms for level in levels if level.ttft_ms is not None), None),
            next((level.tpot_ms for level in levels if level.tpot_ms is not None), None),
            next((level.e2e_ms for level in levels if level.e2e_ms is not None), None),
        )

    def missed(self, context: RequestContext, model: str, ending: Ending) -> list[str] | None:
        """The objectives that an ended request missed; None for one that has none.

        Invalid requests, flex requests and those over the tenant's own share have none. A request
        that a full server refused, that failed or was late misses `availability`. One whose client
        disconnected counts only if it had missed an objective before: a client that gives up on a
        slow answer must not make the service look better.
        """
        promised = context.tier is Tier.DEFAULT and OPERATIONS.get(context.route)
        if ending.outcome == "invalid" or not promised:
            return None
        if ending.outcome == "refused":
            own = ending.error is not None and ending.error.status in _TENANTS_OWN
            return None if own else [AVAILABILITY]
        if ending.outcome in _SERVICE_FAULTS:
            return [AVAILABILITY]
        missed = self._late(context, model)
        return missed or None if ending.outcome == "cancelled" else missed

    def _late(self, context: RequestContext, model: str) -> list[str]:
        elapsed, token = context.elapsed(), context.token_seconds()
        first = context.times.first_token
        ttft, tpot, e2e = self.of(context.route, model)
        missed = []
        if ttft is not None and (elapsed if first is None else first) * 1000 > ttft:
            missed.append("ttft")
        if tpot is not None and token is not None and token * 1000 > tpot:
            missed.append("tpot")
        if e2e is not None and elapsed * 1000 > e2e:
            missed.append("e2e")
        return missed
