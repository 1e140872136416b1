"""The configuration of `make run`, which has sections of plugins too."""

from pathlib import Path

from service.settings.load import load_settings


def test_the_embedded_configuration_is_valid() -> None:
    settings = load_settings(Path("deploy/local/config.yaml"))
    assert settings.base.name == "smollm2-135m-instruct"
    assert settings.engine["max_model_len"] == 2048
    assert [encoder.name for encoder in settings.encoders] == ["all-minilm-l6-v2"]
