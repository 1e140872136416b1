"""Signatures of adapters, beside the program of OpenSSF Model Signing."""

import asyncio
import json
import logging
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from service.adapters.fetch import FetchedAdapter, FetchOutcome, fetch_all
from service.adapters.folder import trusted_keys
from service.adapters.manifest import SIGNATURE_FILE
from service.adapters.registry import Failure
from service.cli.main import app
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.settings.tree import Settings
from tests.adapters.samples import AdapterFolder
from tests.sources.servers import serve_https, write_certificate
from training.packing import sign


class Keys:
    """Private keys beside a folder of the public keys that are trusted."""

    def __init__(self, folder: Path) -> None:
        self.trusted = folder / "trusted"
        self.trusted.mkdir()
        self._folder = folder

    def make(self, name: str, *, trusted: bool = True, password: bytes | None = None) -> Path:
        """The file of a new private key on P-256."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        locked = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        private = self._folder / f"{name}-private.pem"
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, locked))
        public = (self.trusted if trusted else self._folder) / f"{name}.pem"
        public.write_bytes(
            key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return private


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def fetched(tmp_path: Path, base: ServedBase, base_folder: Path, keys: Keys) -> Any:
    """A function that fetches the adapter at an address, as a start does."""

    def fetch(source: object, **sections: Any) -> FetchOutcome:
        settings = Settings.model_validate(
            {
                "model": {"name": base.name, "path": base_folder},
                "adapters": [{"source": str(source)}],
                "adapter_cache": {"path": tmp_path / "cache", **sections.pop("adapter_cache", {})},
                "adapter_trust": {"keys": keys.trusted, "require": True} | sections,
            }
        )
        (outcome,) = asyncio.run(fetch_all(settings, base, {}))
        return outcome

    return fetch


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The foreign program."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refusal(outcome: FetchOutcome) -> str:
    assert isinstance(outcome, Failure), outcome
    return str(outcome.error)


def test_the_foreign_program_agrees_in_both_directions(
    adapter: AdapterFolder, keys: Keys, fetched: Any
) -> None:
    key, folder = keys.make("release"), adapter.save().path
    signature = sign(folder, key)
    public = keys.trusted / "release.pem"
    options = ("--signature", signature, "--public_key", public, folder)
    checked = program("verify", "key", *options)
    assert checked.returncode == 0, checked.stderr

    signature.unlink()
    made = program("sign", "key", "--private_key", key, "--signature", signature, folder)
    assert made.returncode == 0, made.stderr
    outcome = fetched(folder)
    assert isinstance(outcome, FetchedAdapter), outcome
    assert outcome.signed_by == "release"

    adapter.manifest["version"] = "1.2.1"
    adapter.write_manifest()
    assert program("verify", "key", *options).returncode != 0
    assert "adapter sentiment: adapter.sig: is not trusted" in refusal(fetched(folder))


def test_an_unsigned_adapter_is_refused_only_if_signatures_are_required(
    adapter: AdapterFolder, keys: Keys, fetched: Any
) -> None:
    keys.make("release")
    folder = adapter.save().path
    told = "adapter sentiment: adapter.sig: is missing: expected a signature by a trusted key"
    assert told in refusal(fetched(folder))
    outcome = fetched(folder, require=False)
    assert isinstance(outcome, FetchedAdapter)
    assert outcome.signed_by is None


def test_another_key_is_refused_and_a_new_signature_of_the_same_bytes_is_taken(
    adapter: AdapterFolder, keys: Keys, fetched: Any
) -> None:
    stranger, release = keys.make("stranger", trusted=False), keys.make("release")
    folder = adapter.save().path
    sign(folder, stranger)
    for require in (True, False):
        assert "is not trusted" in refusal(fetched(folder, require=require))
    sign(folder, release)
    outcome = fetched(folder)
    assert isinstance(outcome, FetchedAdapter)
    assert outcome.signed_by == "release"


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"[" * 100_000, b"{}", b"x" * ((1 << 20) + 1)]
)
def test_a_file_that_is_no_signature_is_refused(
    adapter: AdapterFolder, keys: Keys, fetched: Any, content: bytes
) -> None:
    keys.make("release")
    folder = adapter.save().path
    (folder / SIGNATURE_FILE).write_bytes(content)
    assert "adapter.sig" in refusal(fetched(folder))


def test_a_signature_that_leaves_the_manifest_out_is_refused(
    adapter: AdapterFolder, keys: Keys, fetched: Any
) -> None:
    key, folder = keys.make("release"), adapter.save().path
    signature = folder / SIGNATURE_FILE
    made = program(
        "sign", "key", "--private_key", key, "--signature", signature,
        "--ignore-paths", folder / "adapter.yaml", folder,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "does not cover the manifest" in refusal(fetched(folder))


def test_a_signature_is_fetched_with_its_adapter_and_kept_for_a_start_without_the_source(
    adapter: AdapterFolder,
    keys: Keys,
    fetched: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate = write_certificate(tmp_path / "server.pem")
    trust = {"ssl": ssl.create_default_context(cafile=str(certificate))}
    monkeypatch.setitem(fsspec.config.conf, "https", trust)
    sign(adapter.save().path, keys.make("release"))
    with serve_https(adapter.path, certificate) as server:
        assert fetched(server.url).signed_by == "release"
    with caplog.at_level(logging.WARNING):
        assert fetched(server.url).signed_by == "release"
    assert "using the signature that it held last" in caplog.text
    assert fetched(server.url, adapter_cache={"offline": True}).signed_by == "release"


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(ConfigurationError, match=r"expected \*\.pem files, found none"):
        trusted_keys(keys.trusted)
    (keys.trusted / "broken.pem").write_text("no key")
    with pytest.raises(ConfigurationError, match=r"broken\.pem: expected a public key in PEM"):
        trusted_keys(keys.trusted)
    assert "needs keys" in _error_of({"require": True})


def test_the_commands_sign_and_verify(
    adapter: AdapterFolder, keys: Keys, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = adapter.save().path, keys.make("release", password=b"secret")
    monkeypatch.chdir(path.parent)
    folder = Path(path.name)  # relative, as at a prompt

    def run(*arguments: object, **environment: str) -> tuple[int, str]:
        words = ["adapters", *map(str, arguments)]
        result = CliRunner().invoke(app, words, env=environment)
        return result.exit_code, result.output

    verifying = ("verify", folder, "--base", base_folder, "--base-name", "tiny", "--keys")
    code, output = run(*verifying, keys.trusted)
    assert (code, "adapter.sig: is missing" in output) == (1, True)
    code, output = run("sign", folder, "--key", key)
    assert (code, "cannot sign" in output) == (2, True)
    code, output = run("sign", folder, "--key", key, "--json", LLM_SIGNING_PASSWORD="secret")
    assert json.loads(output) == {"ok": True, "signature": str(folder / SIGNATURE_FILE)}
    assert code == 0
    assert run(*verifying, keys.trusted)[0] == 0
    keys.make("other")
    assert run(*verifying, keys.trusted / "other.pem")[0] == 1


def _error_of(trust: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="adapter_trust") as caught:
        Settings.model_validate({"model": {"name": "a", "path": "a"}, "adapter_trust": trust})
    return str(caught.value)
