"""The registry: names to versions, and never the base by mistake."""

import pytest

from service.adapters.manifest import ClassificationManifest, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.registry import AdapterRegistry, Failure, ServedVersion
from service.engine.contract import Adapter
from service.errors import AdapterQuarantined, ConfigurationError, NotFound
from service.settings.adapters import AdapterSettings
from tests.adapters.samples import AdapterFolder


@pytest.fixture
def manifest(adapter: AdapterFolder) -> Manifest:
    manifest = load_manifest(adapter.save().path)
    assert isinstance(manifest, ClassificationManifest)
    return manifest


def served(manifest: Manifest, name: str = "sentiment", engine_id: int = 1) -> ServedVersion:
    adapter = Adapter(name, engine_id, "unused", f"sha256:{engine_id:064x}")
    return ServedVersion(adapter, manifest, None, None, 0.0)


def registry_of(*entries: ServedVersion | Failure) -> AdapterRegistry:
    registry = AdapterRegistry("base", lambda _: None)
    registry.swap(entries)
    return registry


def test_an_adapter_answers_as_its_name_and_as_its_version(manifest: Manifest) -> None:
    version = served(manifest)
    registry = registry_of(version)
    assert registry.acquire("sentiment") is version
    assert registry.acquire("sentiment@1.2.0") is version
    assert registry.acquire("base") is None


@pytest.mark.parametrize(
    "name",
    [
        *("", "BASE", "base ", "other", "x" * 10_000, "a\nb", "base@1.2.0"),
        *("Sentiment", "SENTIMENT@1.2.0", "sentimen", "sentiments", "sentiment ", " sentiment"),
        *("sentiment@", "sentiment@1.2", "sentiment@1.2.00", "sentiment@latest", "@1.2.0"),
        *("sentiment@000000000001", "sentiment@sha256:" + "0" * 63 + "1", "sentiment@1.2.0@1.2.0"),
    ],
)
def test_any_other_name_is_not_found(manifest: Manifest, name: str) -> None:
    with pytest.raises(NotFound, match=r"model: .* is not served here") as refused:
        registry_of(served(manifest)).acquire(name)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert len(refused.value.message) < 100


@pytest.mark.parametrize("name", ["broken", "broken@1.2.0", "broken@9"])
def test_a_quarantined_adapter_is_refused_by_its_own_error(name: str) -> None:
    wanted = AdapterSettings(source="broken")
    registry = registry_of(Failure(wanted, "broken", ConfigurationError("the secret reason")))
    with pytest.raises(AdapterQuarantined) as refused:
        registry.acquire(name)
    assert refused.value.code == "adapter_quarantined"
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("names", [["base"], ["a", "a"]])
def test_a_name_that_is_taken_changes_nothing(manifest: Manifest, names: list[str]) -> None:
    registry = registry_of(served(manifest))
    with pytest.raises(ConfigurationError, match=f"'{names[-1]}' is taken already"):
        registry.swap([served(manifest, name, index + 2) for index, name in enumerate(names)])
    assert registry.acquire("sentiment") is not None


def test_a_version_is_unused_once_after_the_swap_and_its_last_request(manifest: Manifest) -> None:
    unused: list[ServedVersion] = []
    registry = AdapterRegistry("base", unused.append)
    old, new = served(manifest), served(manifest, engine_id=2)
    registry.swap([old])
    assert [registry.acquire("sentiment"), registry.acquire("sentiment@1.2.0")] == [old, old]
    registry.swap([new])
    assert registry.acquire("sentiment") is new
    registry.release(old)
    assert unused == []
    registry.release(old)
    assert unused == [old]
    registry.release(new)
    assert unused == [old]
    registry.swap([])
    assert unused == [old, new]


def test_a_version_that_stays_is_not_unused(manifest: Manifest) -> None:
    unused: list[ServedVersion] = []
    registry = AdapterRegistry("base", unused.append)
    version = served(manifest)
    registry.swap([version])
    registry.swap([version, served(manifest, "other", 2)])
    assert unused == []


def test_versions_never_share_the_name_that_the_engine_caches_under(manifest: Manifest) -> None:
    first, second = (
        Adapter("sentiment", 1, "unused", f"sha256:{digit * 64}").engine_name for digit in "ab"
    )
    assert first == "sentiment@aaaaaaaaaaaa"
    assert first != second
