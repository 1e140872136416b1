"""Redirects of sources: what is followed, by each protocol's own client and real servers."""

import asyncio
import base64
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from service.adapters.cache import AdapterCache
from service.adapters.fetch import FetchedAdapter, FetchOutcome, fetch_all
from service.adapters.registry import Failure
from service.cli.main import app
from service.models.base_model import ServedBase
from service.models.fetch import fetch_model
from service.settings.adapters import SourceSettings
from service.settings.tree import Settings
from service.sources import redirects
from service.sources.redirects import RedirectRefused
from service.sources.source import SourceUnreachable
from tests.adapters.samples import AdapterFolder
from tests.sources.servers import (
    FileServer,
    Redirection,
    redirecting,
    serve_https,
    write_certificate,
)

FETCH = """
import sys
from pathlib import Path
from service.adapters.cache import AdapterCache
from service.errors import ConfigurationError
try:
    AdapterCache(Path(sys.argv[1])).resolve(sys.argv[2])
except ConfigurationError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """A rule of the process, as it is by default."""
    redirects.allow(redirects.EVERY_HOST)
    yield
    redirects.allow(redirects.EVERY_HOST)


@pytest.mark.parametrize(
    ("source", "target", "hosts"),
    [
        ("https://a.com/x", "https://a.com:8443/y", []),
        ("https://a.com/x", "https://A.com/y", []),
        ("https://a.com/x", "https://b.com/y", ["*"]),
        ("https://a.com/x", "https://cdn.b.com/y", ["*.b.com"]),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", []),
        ("http://127.0.0.1:5000", "https://b.com/", ["b.com"]),
    ],
)
def test_a_redirect_to_the_own_host_or_an_allowed_one_is_followed(
    source: str, target: str, hosts: list[str]
) -> None:
    redirects.allow(hosts)
    redirects.check(source, target)


@pytest.mark.parametrize(
    ("source", "target", "hosts", "message"),
    [
        ("https://a.com/x", "http://a.com/x", ["*"], "from https to http://a.com; expected https"),
        ("https://a.com/x", "ftp://a.com/x", ["*"], "expected https"),
        (
            "https://a.com/x",
            "https://b.com/x",
            [],
            "a.com or a host of sources.redirect_hosts: non",
        ),
        (
            "https://a.com/x",
            "https://b.com.evil.com/x",
            ["b.com", "*.b.com"],
            r"b\.com, \*\.b\.com",
        ),
        ("http://127.0.0.1:5000", "http://b.com/", ["c.com"], "redirected to http://b.com; "),
    ],
)
def test_any_other_is_refused(source: str, target: str, hosts: list[str], message: str) -> None:
    redirects.allow(hosts)
    with pytest.raises(RedirectRefused, match=message):
        redirects.check(source, target)


def environment(protocol: str, url: str, certificate: Path) -> tuple[str, dict[str, str]]:
    """An address at the server, and what its client needs to be there."""
    host = url.removeprefix("https://")
    account = f"AccountName=a;AccountKey={base64.b64encode(b'key').decode()}"
    uri, needed = {
        "https": (f"{url}/tone", {}),
        "hf": ("hf://acme/tone@v1", {"HF_ENDPOINT": url}),
        "gs": ("gs://models/tone", {"STORAGE_EMULATOR_HOST": url}),
        "s3": ("s3://models/tone", {"AWS_ENDPOINT_URL": url, "AWS_CA_BUNDLE": str(certificate)}),
        "az": (
            "az://models/tone",
            {"AZURE_STORAGE_CONNECTION_STRING": f"{account};BlobEndpoint={url}/a"},
        ),
        "oci": (f"oci://{host}/tone:1", {"REQUESTS_CA_BUNDLE": str(certificate)}),
    }[protocol]
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
    return uri, {"SSL_CERT_FILE": str(certificate), "AWS_REGION": "us-east-1", **keys, **needed}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "server.pem")


@pytest.mark.parametrize(
    ("protocol", "login"),
    [*((each, False) for each in ("https", "hf", "gs", "s3", "az", "oci")), ("oci", True)],
)
def test_no_client_leaves_https(
    protocol: str, login: bool, certificate: Path, tmp_path: Path
) -> None:
    """In a process of its own: most clients read their environment when they are imported."""
    elsewhere = Redirection("http://127.0.0.2:9")
    with redirecting(elsewhere, None) as plain:
        target = plain.replace("://", "://user:secret@")
        hostile = Redirection(target, login)
        with redirecting(hostile, certificate) as url:
            uri, needed = environment(protocol, url, certificate)
            ran = subprocess.run(
                [sys.executable, "-c", FETCH, str(tmp_path / "cache"), uri],
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **needed},
                capture_output=True,
                text=True,
                check=False,
            )
    assert ran.returncode == 0, ran.stderr
    assert hostile.asked
    assert elsewhere.asked == []
    assert ran.stdout.startswith(f"SourceUnreachable: {uri}"), ran.stdout
    assert "secret" not in ran.stdout
    if protocol != "az":  # whose client follows none
        assert f"redirected from https to {plain}; expected https" in ran.stdout


@pytest.fixture
def store(
    adapter: AdapterFolder, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    """A store on 127.0.0.1 with an adapter, which this process trusts."""
    trust = {"ssl": ssl.create_default_context(cafile=str(certificate))}
    monkeypatch.setitem(fsspec.config.conf, "https", trust)
    with serve_https(adapter.save().path, certificate) as server:
        yield server


def test_another_host_is_followed_as_the_setting_says(
    store: FileServer, certificate: Path, tmp_path: Path
) -> None:
    with redirecting(Redirection(store.url), certificate) as url:
        assert AdapterCache(tmp_path / "any").resolve(url).manifest.name == "sentiment"
        redirects.allow(["127.0.0.1"])
        assert AdapterCache(tmp_path / "listed").resolve(url).manifest.name == "sentiment"
        redirects.allow([])
        message = r"sources\.redirect_hosts: none"
        with pytest.raises(SourceUnreachable, match=f"adapter.yaml: redirected to .*{message}"):
            AdapterCache(tmp_path / "none").resolve(url)
        with pytest.raises(SourceUnreachable, match=message):
            fetch_model(url, tmp_path / "model")


def test_what_an_address_held_last_is_used_while_it_redirects_to_elsewhere(
    store: FileServer, certificate: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, state = AdapterCache(tmp_path / "cache"), Redirection(store.url)
    with redirecting(state, certificate) as url:
        held = cache.resolve(url)
        state.target = store.url.replace("https", "http")
        with caplog.at_level(logging.WARNING):
            assert cache.resolve(url).folder == held.folder
    assert "expected https; using what it held last" in caplog.text


def test_the_settings_and_the_command_say_which_hosts_are_allowed(
    store: FileServer, certificate: Path, base: ServedBase, base_folder: Path, tmp_path: Path
) -> None:
    with redirecting(Redirection(store.url), certificate) as url:

        def fetched(*hosts: str) -> FetchOutcome:
            settings = Settings.model_validate(
                {
                    "model": {"name": base.name, "path": base_folder},
                    "adapters": [{"source": url}],
                    "adapter_cache": {"path": tmp_path / "cache"},
                    "sources": {"redirect_hosts": hosts},
                }
            )
            (outcome,) = asyncio.run(fetch_all(settings, base, {}))
            return outcome

        refused = fetched("*.example.com")
        assert isinstance(refused, Failure)
        assert str(refused.error).endswith("sources.redirect_hosts: *.example.com")
        assert isinstance(fetched("*.example.com", "127.0.0.1"), FetchedAdapter)
        for host, code in (("example.com", 2), ("127.0.0.1", 0)):
            asked = ["model", "fetch", url, str(tmp_path / "model"), "--redirect-host", host]
            ran = CliRunner().invoke(app, asked)
            assert ("redirect_hosts: example.com" in ran.output) is (code == 2)


@pytest.mark.parametrize("host", ["https://a.com", "a.com:443", "*a.com", "a.*.com", "A.com", ""])
def test_a_host_of_the_setting_is_a_name_or_all_below_one(host: str) -> None:
    with pytest.raises(ValidationError, match="redirect_hosts"):
        SourceSettings.model_validate({"redirect_hosts": [host]})
