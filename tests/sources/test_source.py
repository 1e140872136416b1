import sys
from pathlib import Path

import pytest
from fsspec.registry import _registry

from service.adapters.cache import AdapterCache
from service.adapters.formats import AdapterRefused
from service.errors import ConfigurationError
from service.sources.source import SourceUnreachable, parse_source


@pytest.mark.parametrize(
    ("uri", "protocol", "root", "immutable"),
    [
        ("/models/tone/", "file", "/models/tone", False),
        ("file:///models/tone", "file", "/models/tone", False),
        ("hf://acme/tone@v1.2", "hf", "hf://acme/tone@v1.2", False),
        ("hf://acme/tone@" + "0a" * 20, "hf", "hf://acme/tone@" + "0a" * 20, True),
        ("hf://acme/tone@main/lora/de", "hf", "hf://acme/tone@main/lora/de", False),
        ("s3://bucket/a/b/", "s3", "s3://bucket/a/b", False),
        ("gs://bucket/a", "gs", "gs://bucket/a", False),
        ("az://container/a", "az", "az://container/a", False),
        ("https://host:8443/a/", "https", "https://host:8443/a", False),
    ],
)
def test_addresses(uri: str, protocol: str, root: str, immutable: bool) -> None:
    source = parse_source(uri, AdapterRefused)

    assert (source.protocol, source.root, source.immutable) == (protocol, root, immutable)
    assert source.local_folder == (Path(root) if protocol == "file" else None)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ftp://host/a", "found ftp://"),
        ("http://host/a", "found http://"),
        ("memory://a", "found memory://"),
        ("s3://bucket/../other", "no '..' in the path"),
        ("file:///models/../etc", "no '..' in the path"),
        ("hf://acme/tone", "expected hf://org/name@revision"),
        ("hf://tone@v1", "expected hf://org/name@revision"),
        ("s3:///a", "expected a bucket or host"),
    ],
)
def test_addresses_that_are_refused(uri: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_source(uri, AdapterRefused)
    assert uri in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    ["https://me:hunter2@host/a", "https://host/a?sig=hunter2", "az://c/a#hunter2"],
)
def test_a_secret_in_an_address_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="credentials come from the environment") as error:
        parse_source(uri, AdapterRefused)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "client"), [("gs://b/a", "gcsfs"), ("az://c/a", "adlfs"), ("oci://h/a:1", "oras.auth")]
)
def test_a_store_whose_client_is_not_installed_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, client: str
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    # Another test may have used it.
    for protocol in list(_registry):
        monkeypatch.delitem(_registry, protocol)
    monkeypatch.delitem(sys.modules, "service.sources.artifact", raising=False)

    with pytest.raises(SourceUnreachable, match=client):
        AdapterCache(tmp_path).resolve(uri)


def test_a_store_nobody_answers_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match=r"https://127\.0\.0\.1:9: adapter\.yaml"):
        AdapterCache(tmp_path).resolve("https://127.0.0.1:9")


def test_the_signature_of_an_address_that_failed_is_not_shown() -> None:
    source = parse_source("oci://registry/acme/tone:1", AdapterRefused)
    error = OSError("503 for url: https://store/x?X-Amz-Credential=AKIA&X-Amz-Signature=hunter2")
    told = str(source.explain("adapter.yaml", error))
    assert "503 for url: https://store/x?..." in told
    assert "hunter2" not in told


def test_a_local_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=r"adapter gone: adapter\.yaml: cannot be read"):
        AdapterCache(tmp_path / "cache").resolve(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/models/tone-v2/", "tone-v2"),
        ("hf://org/intent@v1/", "intent"),
        ("hf://org/many@v1/intent", "intent"),
        ("s3://bucket/adapters/tone/", "tone"),
        ("oci://host:5000/acme/sentiment:1.2.0", "sentiment"),
        ("oci://host/acme/sentiment@sha256:" + "0" * 64, "sentiment"),
    ],
)
def test_an_unread_adapter_is_named_without_its_version(uri: str, name: str) -> None:
    assert parse_source(uri, AdapterRefused).name == name
