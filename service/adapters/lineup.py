"""Lineup of the adapters: the configured versions, and the next ones of planned releases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.adapters.fetch import Failure
from service.adapters.manifest import ClassificationManifest
from service.adapters.refusal import AdapterRefused
from service.adapters.registry import Entry, QuarantinedAdapter, ServedVersion
from service.errors import ConfigurationError
from service.plugins.rollouts.contest import Contest
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.stage import Contender
from service.settings.tree import AdapterSettings, Settings

Outcome = ServedVersion | Failure
Live = Callable[[str], str | None]
"""Digest of the version that a release made live under a name, if one did."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """Outcomes of loading by name; the planned version may take the configured one's place."""

    configured: Sequence[Outcome]
    planned: Mapping[str, Outcome]

    @classmethod
    def of(cls, settings: Settings, outcomes: Sequence[Outcome]) -> "Lineup":
        """The lineup of `settings.wanted_adapters`, loaded in their order.

        A planned version that cannot take the configured one's place is a failure.
        """
        configured = outcomes[: len(settings.adapters)]
        by_name = {_name(each): each for each in configured}
        planned = {
            name: _suited(by_name[name], outcome, settings.planned_adapter(name))
            for name, outcome in zip(
                settings.releases.plans, outcomes[len(settings.adapters) :], strict=True
            )
        }
        return cls(configured, planned)

    @property
    def names(self) -> set[str]:
        """The configured names."""
        return {_name(each) for each in self.configured}

    def arranged(self, live: Live) -> tuple[list[Entry], list[ServedVersion]]:
        """The entries that names stand for, and the versions served as `name@version` only."""
        entries, others = list[Entry](), list[ServedVersion]()
        for each in self.configured:
            planned = self.planned.get(_name(each))
            if planned is not None and _is_live(planned, live):
                each, planned = planned, each
            entries.append(_quarantined(each) if isinstance(each, Failure) else each)
            if isinstance(planned, ServedVersion):
                others.append(planned)
        return entries, others

    def failures(self, live: Live) -> list[Failure]:
        """Failures of configured versions, and of planned ones that names stand for."""
        found = [each for each in self.configured if isinstance(each, Failure)]
        for planned in self.planned.values():
            if isinstance(planned, Failure) and _is_live(planned, live):
                wanted = planned.wanted.model_copy(update={"required": True})
                found.append(replace(planned, wanted=wanted))
        return found

    def refused(self, live: Live) -> list[Failure]:
        """Failures of planned versions that no name stands for yet."""
        return [
            each
            for each in self.planned.values()
            if isinstance(each, Failure) and not _is_live(each, live)
        ]

    def contests(self, plans: Mapping[str, PlanSettings]) -> dict[str, Contest]:
        """The versions of each name as releases compare them."""
        found = {}
        for each in self.configured:
            name = _name(each)
            planned = self.planned.get(name)
            found[name] = Contest(_contender(each), plans.get(name), _contender(planned))
        return found


def _name(outcome: Outcome) -> str:
    return outcome.name if isinstance(outcome, Failure) else outcome.adapter.name


def _is_live(planned: Outcome, live: Live) -> bool:
    wanted = planned.wanted if isinstance(planned, Failure) else planned.adapter
    return wanted.digest is not None and live(_name(planned)) == wanted.digest


def _suited(configured: Outcome, planned: Outcome, wanted: AdapterSettings) -> Outcome:
    if isinstance(configured, Failure) or isinstance(planned, Failure) or configured is planned:
        return planned
    own, other = planned.manifest, configured.manifest
    if own.version == other.version:
        reason = f"must have a version of its own, got {own.version} as the configured one"
    elif own.task != other.task:
        reason = f"must be for {other.task} as the configured one, got {own.task}"
    else:
        return planned
    name = planned.adapter.name
    return Failure(wanted, name, ConfigurationError(f"releases.plans.{name}: {reason}"))


def _contender(outcome: Outcome | None) -> Contender | None:
    if not isinstance(outcome, ServedVersion):
        return None
    manifest = outcome.manifest
    labels = manifest.classification.labels if isinstance(manifest, ClassificationManifest) else ()
    return Contender(outcome.adapter.digest, outcome.names[1], tuple(labels))


def _quarantined(failure: Failure) -> QuarantinedAdapter:
    """The adapter in quarantine, with the message to show: only a refusal's contains no paths."""
    shown = (
        str(failure.error)
        if isinstance(failure.error, AdapterRefused)
        else f"adapter {failure.name}: it could not be loaded; the server's log says why"
    )
    return QuarantinedAdapter(failure.name, str(failure.error), shown)
