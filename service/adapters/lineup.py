"""Lineup of the adapters: the configured versions, and the planned ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.adapters.fetch import Failure
from service.adapters.refusal import AdapterRefused
from service.adapters.registry import Entry, QuarantinedAdapter, ServedVersion
from service.errors import ConfigurationError
from service.settings.adapters import PlannedAdapter
from service.settings.tree import Settings

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
        wanted = settings.planned_adapters
        further = zip(wanted.items(), outcomes[len(settings.adapters) :], strict=True)
        planned = {
            name: _suited(by_name[name], outcome, planned) for (name, planned), outcome in further
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

    def pairs(self) -> dict[str, tuple[ServedVersion | None, ServedVersion | None]]:
        """The configured and the planned version of each name; None for one that cannot serve."""
        return {
            _name(each): (_version(each), _version(self.planned.get(_name(each))))
            for each in self.configured
        }


def _name(outcome: Outcome) -> str:
    return outcome.name if isinstance(outcome, Failure) else outcome.adapter.name


def _is_live(planned: Outcome, live: Live) -> bool:
    wanted = planned.wanted if isinstance(planned, Failure) else planned.adapter
    return wanted.digest is not None and live(_name(planned)) == wanted.digest


def _suited(configured: Outcome, planned: Outcome, wanted: PlannedAdapter) -> Outcome:
    if isinstance(configured, Failure) or isinstance(planned, Failure) or configured is planned:
        return planned
    own, other = planned.manifest, configured.manifest
    if own.version == other.version:
        reason = f"must have a version of its own, got {own.version} as the configured one"
    elif own.task != other.task:
        reason = f"must be for {other.task} as the configured one, got {own.task}"
    else:
        return planned
    error = ConfigurationError(f"{wanted.place}: {reason}")
    return Failure(wanted.wanted, planned.adapter.name, error)


def _version(outcome: Outcome | None) -> ServedVersion | None:
    return outcome if isinstance(outcome, ServedVersion) else None


def _quarantined(failure: Failure) -> QuarantinedAdapter:
    """The adapter in quarantine, with the message to show: only a refusal's contains no paths."""
    shown = (
        str(failure.error)
        if isinstance(failure.error, AdapterRefused)
        else f"adapter {failure.name}: it could not be loaded; the server's log says why"
    )
    return QuarantinedAdapter(failure.name, str(failure.error), shown)
