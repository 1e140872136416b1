"""Configured versions of adapters, paired with the versions that are planned to replace them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from service.adapters.registry import Entry, Failure, ServedVersion
from service.errors import ConfigurationError
from service.settings.adapters import PlannedAdapter
from service.settings.tree import Settings

Pair = tuple[Entry, Entry | None]
"""The outcomes of loading a name's configured version and its planned one, if there is one."""
Live = Callable[[str], str | None]
"""Digest of the version that a release made live under a name, if one did."""


def pair_up(settings: Settings, outcomes: Sequence[Entry]) -> list[Pair]:
    """Pair outcomes that are in the order of `settings.wanted_adapters`.

    A planned version that cannot replace the configured one becomes a failure.
    """
    plans, count = settings.planned_adapters, len(settings.adapters)
    planned = dict(zip(plans, outcomes[count:], strict=True))
    return [
        (each, _check_suits(each, planned[each.name], plans[each.name]))
        if each.name in plans
        else (each, None)
        for each in outcomes[:count]
    ]


def _check_suits(configured: Entry, planned: Entry, plan: PlannedAdapter) -> Entry:
    """The planned version, or the failure of one that cannot replace the configured one."""
    if isinstance(configured, Failure) or isinstance(planned, Failure) or configured is planned:
        return planned
    own, other = planned.manifest, configured.manifest
    if own.version == other.version:
        reason = f"must have a version of its own, got {own.version} as the configured one"
    elif own.task != other.task:
        reason = f"must be for {other.task} as the configured one, got {own.task}"
    else:
        return planned
    return Failure(plan.wanted, planned.name, ConfigurationError(f"{plan.place}: {reason}"))


def arrange(pairs: Iterable[Pair], live: Live) -> tuple[list[Entry], list[ServedVersion]]:
    """The entry that each name resolves to, and the versions served as `name@version` only."""
    entries, others = list[Entry](), list[ServedVersion]()
    for configured, planned in pairs:
        first, second = configured, planned
        if planned is not None and _is_live(planned, live):
            first, second = planned, configured
        entries.append(first)
        if isinstance(second, ServedVersion):
            others.append(second)
    return entries, others


def failures_of(pairs: Sequence[Pair], live: Live) -> tuple[list[Failure], list[Failure]]:
    """The failures of served names, and those of planned versions that are not live yet.

    A planned version that a release made live is required, as the configured one is not any more.
    """
    failures = [configured for configured, _ in pairs if isinstance(configured, Failure)]
    refused = list[Failure]()
    for _, planned in pairs:
        if isinstance(planned, Failure):
            if _is_live(planned, live):
                wanted = planned.wanted.model_copy(update={"required": True})
                failures.append(replace(planned, wanted=wanted))
            else:
                refused.append(planned)
    return failures, refused


def _is_live(planned: Entry, live: Live) -> bool:
    wanted = planned.wanted if isinstance(planned, Failure) else planned.adapter
    return wanted.digest is not None and live(planned.name) == wanted.digest
