"""Configured adapters from their sources into the cache, verified: all that needs no engine."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.adapters.base_model import BaseModel, read_base_model
from service.adapters.cache import AdapterCache
from service.adapters.refusal import AdapterRefused
from service.adapters.verify import VerifiedAdapter, verify
from service.classification.together import together
from service.errors import ConfigurationError
from service.settings import AdapterSettings, Settings

_log = logging.getLogger(__name__)
_FETCHES = 4
"""Adapters that are fetched and verified at once, each in a thread."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A configured adapter that cannot be served."""

    wanted: AdapterSettings
    name: str
    error: ConfigurationError


@dataclass(frozen=True, slots=True)
class FetchedAdapter:
    """A configured adapter whose bytes are on this machine and right, and how long that took."""

    wanted: AdapterSettings
    name: str
    verified: VerifiedAdapter
    seconds: float


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A configured adapter whose bytes are those that are served under its name already."""

    name: str


Outcome = FetchedAdapter | Unchanged | Failure


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched before the engine ran, and the base that it was verified against."""

    base: BaseModel
    outcomes: Sequence[Outcome]


async def fetch_before_start(settings: Settings) -> Fetched | None:
    """Fetch and verify what is configured, if anything, while there is no engine yet.

    An adapter that must not fail is then refused within seconds, not after the engine's start.
    Raises ConfigurationError with a line for each of those.
    """
    if not settings.adapters:
        return None
    base = await asyncio.to_thread(
        read_base_model,
        settings.model.path,
        name=settings.model.name,
        max_rank=settings.max_lora_rank,
    )
    outcomes = await fetch_all(settings, base, {})
    refuse_fatal([each for each in outcomes if isinstance(each, Failure)], settings)
    return Fetched(base, outcomes)


async def fetch_all(settings: Settings, base: BaseModel, held: Mapping[str, str]) -> list[Outcome]:
    """Fetch and verify what is configured, side by side and in its order.

    `held` are the digests that are served now, by name: equal bytes are not verified again.
    """
    slots = asyncio.Semaphore(_FETCHES)
    return await together(
        [_fetch(wanted, settings, base, held, slots) for wanted in settings.adapters]
    )


def refuse_fatal(
    failures: Sequence[Failure], settings: Settings, served: Collection[str] = ()
) -> None:
    """Raise ConfigurationError, a line each, for failures that must not be quarantined.

    Those are of required adapters, unless `adapters_on_failure` is `quarantine`, and of names
    that are `served` now.
    """
    lenient = settings.adapters_on_failure == "quarantine"
    lines = [
        str(each.error)
        for each in failures
        if each.name in served or (each.wanted.required and not lenient)
    ]
    if len(lines) == 1:
        raise ConfigurationError(lines[0])
    if lines:
        raise ConfigurationError("\n  ".join([f"{len(lines)} adapters cannot be served:", *lines]))


def failed(wanted: AdapterSettings, name: str, error: ConfigurationError) -> Failure:
    """The failure, under the name that was configured or else the one that its files say."""
    if wanted.name is None and isinstance(error, AdapterRefused):
        name = error.adapter
    return Failure(wanted, name, error)


async def _fetch(
    wanted: AdapterSettings,
    settings: Settings,
    base: BaseModel,
    held: Mapping[str, str],
    slots: asyncio.Semaphore,
) -> Outcome:
    name = wanted.name or PurePosixPath(wanted.source.rstrip("/")).name
    try:
        async with slots:
            started = time.monotonic()
            cached = await asyncio.to_thread(
                AdapterCache(settings.adapter_cache.path).resolve,
                wanted.source,
                digest=wanted.digest,
                offline=settings.adapter_cache.offline,
            )
            name = wanted.name or cached.manifest.name
            if held.get(name) == cached.manifest.digest:
                return Unchanged(name)
            verified = await asyncio.to_thread(verify, cached.folder, base)
            return FetchedAdapter(wanted, name, verified, time.monotonic() - started)
    except ConfigurationError as error:
        return failed(wanted, name, error)
    except Exception as error:  # one adapter's files must not end what serves the others
        _log.exception("adapter %s: not checked to the end", name)
        told = f"adapter {name}: not checked to the end: {type(error).__name__}: {error}"
        return failed(wanted, name, ConfigurationError(told))
