"""What is served where no configuration is given."""

from pathlib import Path

import pytest

from service.cli import default
from service.settings.load import load_settings
from tests.served.configuration import SMOLLM2


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LLM_SERVICE_MODEL__PATH", "")
    monkeypatch.delenv("LLM_SERVICE_MODEL__PATH")


def test_a_model_in_the_users_cache_is_served_on_this_machine_alone(tmp_path: Path) -> None:
    folder = tmp_path / "llm-service/models/smollm2-135m-instruct"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(SMOLLM2.resolve())
    settings = load_settings(default.default_config())
    assert settings.model is not None
    assert settings.model.path == folder
    assert (settings.http.host, settings.http.ops_host) == ("127.0.0.1", "127.0.0.1")


def test_a_model_that_is_named_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SERVICE_MODEL__PATH", str(SMOLLM2))
    monkeypatch.setattr(default, "PACKAGED", {})
    settings = load_settings(default.default_config())
    assert settings.model is not None
    assert settings.model.path == SMOLLM2
