"""Redirects of sources: followed only from https to https, and only to allowed hosts.

Each protocol has a client library of its own, which follows redirects. All of them are patched to
call `check` before they follow one.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import fsspec

from service.common.hosts import is_listed
from service.errors import ConfigurationError

EVERY_HOST = ("*",)

_allowed: Sequence[str] = EVERY_HOST


class RedirectRefused(ConfigurationError):
    """A server redirected a source's client to an address that is not allowed."""


def allow(hosts: Sequence[str]) -> None:
    """Set the hosts to which sources may redirect, as `is_listed` takes them.

    They hold for the whole process, since the Hub's client has one session for all.
    """
    global _allowed
    _allowed = hosts


def check(source: str, target: str) -> None:
    """Raise RedirectRefused unless a server at the address `source` may redirect to `target`.

    The message has the target's host, but neither path nor query, which may be a secret.
    """
    here, there = urlsplit(source), urlsplit(target)
    host = there.hostname or ""
    shown = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
    if here.scheme == "https" and there.scheme != "https":
        raise RedirectRefused(f"redirected from https to {shown}; expected https")
    if host != here.hostname and not is_listed(host, _allowed):
        listed = ", ".join(_allowed) or "none"
        raise RedirectRefused(
            f"redirected to {shown}; expected {here.hostname} or a host of sources.redirect_hosts: "
            f"{listed}"
        )


def refused_in(error: BaseException | None) -> RedirectRefused | None:
    """The RedirectRefused among the causes of a client's error; None if there is none."""
    while error is not None and not isinstance(error, RedirectRefused):
        error = error.__cause__ or error.__context__
    return error


def filesystem(protocol: str, options: Mapping[str, Any]) -> Any:
    """fsspec's file system of a protocol, whose client follows redirects only as `check` allows."""
    if protocol == "hf":
        _guard_hub()
    guards = _GUARDS[protocol](options) if protocol in _GUARDS else {}
    # Without the instance and listing caches, so that a reload sees the present files.
    made = fsspec.filesystem(
        protocol, skip_instance_cache=True, use_listings_cache=False, **{**options, **guards}
    )
    if protocol == "az":
        _follow_none(made.service_client)
    return made


def _web(options: Mapping[str, Any]) -> dict[str, Any]:
    async def client(**arguments: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(trace_configs=[_tracing()], **arguments)

    return {"get_client": client}


def _google(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"session_kwargs": {"trace_configs": [_tracing()]}}


def _s3(options: Mapping[str, Any]) -> dict[str, Any]:
    from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]

    class Session(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
            session: aiohttp.ClientSession = await super()._get_session(proxy_url)
            if not session.trace_configs:
                session.trace_configs.append(tracing)
            return session

        async def send(self, request: Any) -> Any:
            try:
                return await super().send(request)
            except Exception as error:
                if (refused := refused_in(error)) is not None:
                    raise refused from None  # botocore would try an error of its own again
                raise

    tracing = _tracing()
    tracing.freeze()
    return {"config_kwargs": {**options.get("config_kwargs", {}), "http_session_cls": Session}}


_GUARDS = {"https": _web, "gs": _google, "s3": _s3}
"""By protocol, the function that returns options with which its client calls `check`."""


def _tracing() -> aiohttp.TraceConfig:
    """The trace hook with which aiohttp calls `check` at each redirect."""

    async def redirected(
        session: aiohttp.ClientSession, context: Any, found: aiohttp.TraceRequestRedirectParams
    ) -> None:
        headers, at = found.response.headers, found.url
        if location := headers.get("Location") or headers.get("URI"):
            try:
                # As aiohttp reads it, which refuses what is no address.
                check(str(at), str(at.join(type(at)(location, encoded=True))))
            except BaseException:
                found.response.close()
                raise

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(redirected)
    return tracing


@functools.cache
def _guard_hub() -> None:
    """Have each session of the Hub's client call `check` before each of its requests."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client() -> Any:
        made = default_client_factory()
        before = [
            *made.event_hooks["request"],
            lambda sent: check(constants.ENDPOINT, str(sent.url)),
        ]
        made.event_hooks = {**made.event_hooks, "request": before}
        return made

    set_client_factory(client)


def _follow_none(client: Any) -> None:
    """Switch redirects off in Azure's client, whose store has none; adlfs has no option for it."""
    from azure.core.pipeline.policies import AsyncRedirectPolicy, RedirectPolicy

    for policy in client._pipeline._impl_policies:
        if isinstance(policy, RedirectPolicy | AsyncRedirectPolicy):
            policy.allow = False
