"""Fetches and verifies configured adapters: the steps that need no engine."""

import asyncio
import functools
import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pydantic import JsonValue

from service.adapters.cache import AdapterCache, CachedAdapter
from service.adapters.folder import check_signature, trusted_keys
from service.adapters.formats import AdapterRefused
from service.adapters.golden import requests_to_try
from service.adapters.manifest import MANIFEST_FILE
from service.adapters.registry import Failure, ServedVersion
from service.adapters.verify import VerifiedAdapter, require_provable, verify
from service.common.aio import bounded_gather
from service.common.error_messages import nearest
from service.errors import ConfigurationError
from service.models.base_model import ServedBase, read_base_model
from service.settings.adapters import AdapterSettings
from service.settings.tree import ModelSettings, Settings
from service.sources import redirects
from service.sources.source import parse_source

_log = logging.getLogger(__name__)
FETCHES = 4
"""Adapters that are fetched and verified at once, each in a thread."""


@dataclass(frozen=True, slots=True)
class FetchedAdapter:
    """A configured adapter, fetched and verified, with the seconds that both took.

    `signed_by` names the trusted key that signed it.
    """

    wanted: AdapterSettings
    name: str
    verified: VerifiedAdapter
    seconds: float
    signed_by: str | None = None


def shown_examples(
    fetched: FetchedAdapter, settings: Settings
) -> Sequence[Mapping[str, JsonValue]]:
    """The golden inputs that callers may see; none by default, if callers may be other people."""
    shown, callers = fetched.wanted.show_examples, settings.tenants
    if shown is None:
        shown = callers.keys is None and not callers.allow_anonymous
    return requests_to_try(fetched.verified.folder, fetched.verified.manifest) if shown else ()


FetchOutcome = FetchedAdapter | ServedVersion | Failure
"""A served version is the outcome where its bytes are wanted under the same name again."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Adapters that were fetched before the engine ran, and the base used to verify them."""

    base: ServedBase
    outcomes: Sequence[FetchOutcome]


@functools.cache
def adapter_cache(path: Path) -> AdapterCache:
    """The process's only cache in a folder; it holds the served adapters."""
    return AdapterCache(path)


async def read_base(model: ModelSettings, max_rank: int) -> ServedBase:
    """The base that adapters are verified against."""
    return await asyncio.to_thread(read_base_model, model.path, name=model.name, max_rank=max_rank)


async def fetch_before_start(settings: Settings) -> Fetched | None:
    """Fetch and verify the configured adapters, if any, before the engine starts.

    So a required adapter that fails ends the start within seconds, not after the engine's start.
    Raises ConfigurationError with one line for each failed adapter that must not be quarantined.
    """
    if not settings.wanted_adapters:
        return None
    base = await read_base(settings.base, settings.max_lora_rank)
    outcomes = await fetch_all(settings, base, {})
    configured = outcomes[: len(settings.adapters)]
    refuse_fatal([each for each in configured if isinstance(each, Failure)], settings)
    return Fetched(base, outcomes)


async def fetch_all(
    settings: Settings, base: ServedBase, served: Mapping[tuple[str, str], ServedVersion]
) -> list[FetchOutcome]:
    """Fetch and verify `settings.wanted_adapters` concurrently; the outcomes are in the same order.

    A version that is in `served` (by name and digest) is not verified again. Raises
    ConfigurationError for a release of a name that no adapter has.
    """
    redirects.allow(settings.sources.redirect_hosts)  # a reload may have changed them
    outcomes = await bounded_gather(
        lambda wanted: fetch_adapter(wanted, settings, base, served),
        settings.wanted_adapters,
        FETCHES,
    )
    names = {each.name for each in outcomes[: len(settings.adapters)]}
    for name, planned in settings.planned_adapters.items():
        if name not in names:
            raise ConfigurationError(
                f"{planned.place}: must be the name of a configured adapter{nearest(name, names)}"
            )
    return _with_distinct_names(outcomes, settings.base.name)


def refuse_fatal(
    failures: Sequence[Failure],
    settings: Settings,
    served: Collection[str] = (),
    gone: Collection[str] = (),
    addresses: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise ConfigurationError, a line each, for failures that must not be quarantined.

    A failure is fatal if its adapter is required and `adapters_on_failure` is not `quarantine`, or
    if it would take away a name that is `served` now. `gone` are the served names that no other
    version replaces. If any are gone, a failure whose name is only guessed is fatal, since it may
    be one of them; so is a failure at the address of one of them (`addresses` maps an address to
    the name it serves now).
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


async def fetch_adapter(
    wanted: AdapterSettings,
    settings: Settings,
    base: ServedBase,
    served: Mapping[tuple[str, str], ServedVersion],
) -> FetchOutcome:
    """Fetch and verify one adapter; a version that is in `served` is not verified again."""
    name, started = wanted.name, time.monotonic()
    try:
        cached = await asyncio.to_thread(
            adapter_cache(settings.adapter_cache.path).resolve,
            wanted.source,
            digest=wanted.digest,
            offline=settings.adapter_cache.offline,
        )
        name = wanted.name or cached.manifest.name
        if settings.require_proof:
            require_provable(cached.manifest)
        signed_by = await asyncio.to_thread(_signed_by, wanted, cached, settings)
        if (held := served.get((name, cached.manifest.digest))) is not None:
            return held
        verified = await asyncio.to_thread(verify, cached.folder, base)
        return FetchedAdapter(wanted, name, verified, time.monotonic() - started, signed_by)
    except ConfigurationError as error:
        return _failure(wanted, name, error)
    except Exception as error:  # one adapter's files must not end the service of the others
        shown = name or wanted.source
        _log.exception("adapter %s: its check failed", shown)
        reason = f"adapter {shown}: its check failed: {type(error).__name__}: {error}"
        return _failure(wanted, name, ConfigurationError(reason))


def _signed_by(wanted: AdapterSettings, cached: CachedAdapter, settings: Settings) -> str | None:
    """The trusted key that signed the adapter; None without a signature or without trusted keys."""
    trust, manifest = settings.adapter_trust, cached.manifest
    if trust.keys is None:
        return None
    signature = adapter_cache(settings.adapter_cache.path).signature(
        wanted.source, manifest.digest, offline=settings.adapter_cache.offline
    )
    return check_signature(
        manifest.name, cached.folder, signature, trusted_keys(trust.keys), require=trust.require
    )


def _failure(wanted: AdapterSettings, name: str | None, error: ConfigurationError) -> Failure:
    """The failure of an adapter, under its known name or, without one, a guess."""
    if name is not None:
        return Failure(wanted, name, error)
    if isinstance(error, AdapterRefused):
        # The manifest is read before any other file.
        return Failure(wanted, error.owner, error, guessed=error.file == MANIFEST_FILE)
    try:
        guess = parse_source(wanted.source, AdapterRefused).name
    except ConfigurationError:
        guess = "adapter"  # the address may hold a secret
    return Failure(wanted, guess, error, guessed=True)


def _with_distinct_names(outcomes: Sequence[FetchOutcome], base_name: str) -> list[FetchOutcome]:
    """The outcomes; a guessed name that is taken gets its position in the configuration added."""
    taken = Counter([base_name, *(each.name for each in outcomes)])
    return [
        replace(each, name=f"{each.name} ({place})")
        if isinstance(each, Failure) and each.guessed and taken[each.name] > 1
        else each
        for place, each in enumerate(outcomes, 1)
    ]
