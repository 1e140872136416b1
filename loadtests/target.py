"""Requests to the server besides the load: for its model and its counters."""

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from loadtests.load.scenario import Scenario, ScenarioError

_TIMEOUT_S = 10.0
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def tenant_keys(scenario: Scenario) -> dict[str, str | None]:
    """Each tenant's key, from its environment variable; raises ScenarioError if it is not set."""
    keys: dict[str, str | None] = {}
    for tenant in scenario.callers:
        if tenant.key_env is not None and tenant.key_env not in os.environ:
            raise ScenarioError(
                f"tenant {tenant.name!r}: the environment variable {tenant.key_env} is not set"
            )
        keys[tenant.name] = os.environ[tenant.key_env] if tenant.key_env else None
    return keys


def extra_headers(lines: Sequence[str]) -> dict[str, str]:
    """Headers from lines as `Name: value`; raises ScenarioError for any other line."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _HEADER.fullmatch(name) or not value.strip():
            raise ScenarioError(f"--header must be 'Name: value', got {line!r}")
        headers[name] = value.strip()
    return headers


def server_address(host: str) -> str:
    """A server's address without a trailing /v1, which OpenAI's clients expect.

    Raises ScenarioError for any other path, which requests would ignore.
    """
    address = host.rstrip("/").removesuffix("/v1").rstrip("/")
    if urllib.parse.urlsplit(address).path:
        raise ScenarioError(f"--host must be an address without a path, or with /v1, got {host!r}")
    return address


def ask_model(host: str, scenario: Scenario, more: Mapping[str, str]) -> str:
    """The first model a server lists, asked with the first tenant's key; raises ScenarioError."""
    key = next(iter(tenant_keys(scenario).values()))
    url = f"{host}/v1/models"
    headers = {**more, **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return str(json.load(response)["data"][0]["id"])
    except urllib.error.HTTPError as error:
        wanted = "--model"
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            wanted = "a key, as --header 'Authorization: Bearer KEY'"
        raise ScenarioError(f"{url}: the answer is {error}; give {wanted}") from error
    except OSError as error:
        raise ScenarioError(f"{url}: cannot be reached: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ScenarioError(f"--model must be given: {url} lists no model ({error})") from error


def read_metrics(url: str) -> tuple[str, str]:
    """A metrics page and an empty reason, or an empty page and why it could not be read."""
    if not url:
        return "", "no metrics URL was given"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            return response.read().decode("utf-8", "replace"), ""
    except (OSError, ValueError) as error:
        return "", f"{url} could not be read ({error})"


def read_releases(metrics_url: str) -> dict[str, str]:
    """The state of each release, from the port of a metrics page; none if they cannot be read."""
    try:
        url = urllib.parse.urljoin(metrics_url, "/releases")
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            return {each["adapter"]: each["state"] for each in json.load(response)["releases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
