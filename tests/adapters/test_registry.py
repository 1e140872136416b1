"""The registry: names to adapters, and never the base by mistake."""

from pathlib import Path

import pytest

from service.adapters.registry import AdapterRegistry
from service.engine.protocol import Adapter
from service.errors import ConfigurationError, NotFound
from service.settings import AdapterSettings
from tests.fake_engines import fake_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


async def test_each_loaded_adapter_has_an_id_of_its_own(folder: Path) -> None:
    engine, _ = fake_engine()
    registry = AdapterRegistry("base")
    await registry.load(engine, [AdapterSettings(name=name, path=folder) for name in ("b", "a")])
    assert registry.resolve("b") == Adapter("b", 1, str(folder))
    assert registry.resolve("a") == Adapter("a", 2, str(folder))
    assert [adapter.name for adapter in registry.all()] == ["a", "b"]
    assert registry.resolve("base") is None


@pytest.mark.parametrize("name", ["", "BASE", "base ", "other", "x" * 10_000, "a\nb"])
async def test_any_other_name_is_not_found(name: str) -> None:
    with pytest.raises(NotFound, match="is not served here") as refused:
        AdapterRegistry("base").resolve(name)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert len(refused.value.message) < 100


@pytest.mark.parametrize("names", [["base"], ["a", "a"]])
async def test_a_name_that_is_taken_ends_the_start(folder: Path, names: list[str]) -> None:
    engine, _ = fake_engine()
    with pytest.raises(ConfigurationError, match=f"'{names[-1]}' is taken already"):
        await AdapterRegistry("base").load(
            engine, [AdapterSettings(name=name, path=folder) for name in names]
        )


async def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    engine, _ = fake_engine()
    with pytest.raises(ConfigurationError, match=f"{tmp_path} holds no adapter_config.json"):
        await AdapterRegistry("base").load(engine, [AdapterSettings(name="a", path=tmp_path)])


async def test_an_adapter_that_the_engine_refuses_is_not_served(folder: Path) -> None:
    engine, _ = fake_engine()
    await engine.load_adapter(Adapter("earlier", 1, "elsewhere"))
    registry = AdapterRegistry("base")
    with pytest.raises(ConfigurationError, match="'a'"):
        await registry.load(engine, [AdapterSettings(name="a", path=folder)])
    with pytest.raises(NotFound):
        registry.resolve("a")
