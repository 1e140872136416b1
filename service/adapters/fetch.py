"""Fetching and verifying of configured adapters: the steps that need no engine."""

import asyncio
import functools
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from service.adapters.cache import AdapterCache, CachedAdapter
from service.adapters.folder import check_signature, trusted_keys
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE
from service.adapters.verify import VerifiedAdapter, require_provable, verify
from service.common.aio import gather
from service.common.error_messages import nearest
from service.errors import ConfigurationError
from service.models.base_model import ServedBase, read_base_model
from service.settings.adapters import AdapterSettings
from service.settings.tree import Settings
from service.sources import redirects
from service.sources.source import parse_source

_log = logging.getLogger(__name__)
_FETCHES = 4
"""Adapters that are fetched and verified at once, each in a thread."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A configured adapter that cannot be served.

    The name is `guessed` if none was configured and no manifest could be read.
    """

    wanted: AdapterSettings
    name: str
    error: ConfigurationError
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class FetchedAdapter:
    """A configured adapter that is on this machine and verified, and the time that this took.

    `signed_by` names the trusted key that signed it.
    """

    wanted: AdapterSettings
    name: str
    verified: VerifiedAdapter
    seconds: float
    signed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A configured adapter whose bytes are already served under its name."""

    name: str
    digest: str


FetchOutcome = FetchedAdapter | Unchanged | Failure


@dataclass(frozen=True, slots=True)
class Fetched:
    """Adapters fetched before the engine ran, and the base that they were verified against."""

    base: ServedBase
    outcomes: Sequence[FetchOutcome]


@functools.cache
def adapter_cache(path: Path) -> AdapterCache:
    """The process's only cache in a folder; it holds the served adapters."""
    return AdapterCache(path)


async def fetch_before_start(settings: Settings) -> Fetched | None:
    """Fetch and verify the configured adapters, if any, before the engine starts.

    So a required adapter that fails ends the start within seconds, not after the engine's start.
    Raises ConfigurationError with one line for each failed adapter that must not be quarantined.
    """
    if not settings.wanted_adapters:
        return None
    base = await asyncio.to_thread(
        read_base_model,
        settings.base.path,
        name=settings.base.name,
        max_rank=settings.max_lora_rank,
    )
    outcomes = await fetch_all(settings, base, ())
    configured = outcomes[: len(settings.adapters)]
    refuse_fatal([each for each in configured if isinstance(each, Failure)], settings)
    return Fetched(base, outcomes)


async def fetch_all(
    settings: Settings, base: ServedBase, held: Collection[tuple[str, str]]
) -> list[FetchOutcome]:
    """Fetch and verify `settings.wanted_adapters` concurrently; the outcomes are in the same order.

    `held` are the names and digests that are served now: equal bytes are not verified again. Raises
    ConfigurationError for a release of a name that no adapter has.
    """
    redirects.allow(settings.sources.redirect_hosts)  # a reload may have changed them
    slots = asyncio.Semaphore(_FETCHES)
    outcomes = await gather(
        [_fetch(wanted, settings, base, held, slots) for wanted in settings.wanted_adapters]
    )
    _check_planned(outcomes[: len(settings.adapters)], settings)
    return _told_apart(outcomes, settings.base.name)


def refuse_fatal(
    failures: Sequence[Failure],
    settings: Settings,
    served: Collection[str] = (),
    gone: Collection[str] = (),
    addresses: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise ConfigurationError, a line each, for failures that must not be quarantined.

    These are failures of required adapters, unless `adapters_on_failure` is `quarantine`, and of
    names that are `served` now. A failure with a guessed name may belong to any served name that
    would be `gone`; a failure at an address belongs to the name that the address serves now
    (`addresses`), whatever its manifest says.
    """
    lenient = settings.adapters_on_failure == "quarantine"
    lines = [
        str(each.error)
        for each in failures
        if each.name in served
        or (each.guessed and gone)
        or addresses.get(each.wanted.source) in gone
        or (each.wanted.required and not lenient)
    ]
    if len(lines) == 1:
        raise ConfigurationError(lines[0])
    if lines:
        raise ConfigurationError("\n  ".join([f"{len(lines)} adapters cannot be served:", *lines]))


def _check_planned(configured: Sequence[FetchOutcome], settings: Settings) -> None:
    names = {each.name for each in configured}
    for name, planned in settings.planned_adapters.items():
        if name in names:
            continue
        raise ConfigurationError(
            f"{planned.place}: must be the name of a configured adapter{nearest(name, names)}"
        )


async def _fetch(
    wanted: AdapterSettings,
    settings: Settings,
    base: ServedBase,
    held: Collection[tuple[str, str]],
    slots: asyncio.Semaphore,
) -> FetchOutcome:
    cache = adapter_cache(settings.adapter_cache.path)
    name = wanted.name
    try:
        async with slots:
            started = time.monotonic()
            cached = await asyncio.to_thread(
                cache.resolve,
                wanted.source,
                digest=wanted.digest,
                offline=settings.adapter_cache.offline,
            )
            name = wanted.name or cached.manifest.name
            if settings.require_proof:
                require_provable(cached.manifest)
            signed_by = await asyncio.to_thread(_signed_by, wanted, cached, settings, cache)
            if (name, cached.manifest.digest) in held:
                return Unchanged(name, cached.manifest.digest)
            verified = await asyncio.to_thread(verify, cached.folder, base)
            return FetchedAdapter(wanted, name, verified, time.monotonic() - started, signed_by)
    except ConfigurationError as error:
        return await asyncio.to_thread(_failure, wanted, name, error, cache)
    except Exception as error:  # one adapter's files must not end the service of the others
        shown = name or wanted.source
        _log.exception("adapter %s: its check failed", shown)
        told = f"adapter {shown}: its check failed: {type(error).__name__}: {error}"
        return await asyncio.to_thread(_failure, wanted, name, ConfigurationError(told), cache)


def _signed_by(
    wanted: AdapterSettings, cached: CachedAdapter, settings: Settings, cache: AdapterCache
) -> str | None:
    """The trusted key that signed the adapter; None without a signature or without trusted keys."""
    trust = settings.adapter_trust
    if trust.keys is None:
        return None
    manifest, offline = cached.manifest, settings.adapter_cache.offline
    signature = cache.signature(wanted.source, manifest.digest, offline=offline)
    return check_signature(
        manifest.name, cached.folder, signature, trusted_keys(trust.keys), require=trust.require
    )


def _failure(
    wanted: AdapterSettings, name: str | None, error: ConfigurationError, cache: AdapterCache
) -> Failure:
    """The failure of an adapter, under its known name or, without one, a guess."""
    if name is not None:
        return Failure(wanted, name, error)
    if isinstance(error, AdapterRefused) and error.file != MANIFEST_FILE:
        return Failure(wanted, error.owner, error)  # its manifest was read before that file
    return Failure(wanted, _guess(wanted.source, error, cache), error, guessed=True)


def _guess(uri: str, error: ConfigurationError, cache: AdapterCache) -> str:
    try:
        shown = parse_source(uri, AdapterRefused).name
    except ConfigurationError:
        # The text after these may be a secret.
        shown = re.split("[:@?#]", PurePosixPath(uri.rstrip("/")).name)[0] or "adapter"
    if isinstance(error, AdapterRefused) and error.owner != shown:
        return error.owner
    return cache.last_name(uri) or shown


def _told_apart(outcomes: Sequence[FetchOutcome], base_name: str) -> list[FetchOutcome]:
    """The outcomes; a guessed name that is taken gets its position in the configuration added."""
    taken = Counter([base_name, *(each.name for each in outcomes)])
    return [
        replace(each, name=f"{each.name} ({place})")
        if isinstance(each, Failure) and each.guessed and taken[each.name] > 1
        else each
        for place, each in enumerate(outcomes, 1)
    ]
