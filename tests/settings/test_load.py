"""The settings: file, environment, and messages that name the key and the nearest valid one."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.common.error_messages import nearest
from service.errors import ConfigurationError
from service.settings.load import load_settings, mask_all
from service.settings.tree import ModelSettings, Settings

LEAST = "model: {name: base, path: models/base}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(LEAST)
    return path


def test_the_least_configuration_has_every_default(file: Path) -> None:
    settings = load_settings(file)
    assert (settings.http.host, settings.http.port, settings.http.ops_port) == (
        "127.0.0.1",
        8000,
        8001,
    )
    assert settings.http.ops_host == "127.0.0.1"
    assert (settings.limits.n, settings.limits.choices, settings.limits.regex_bytes) == (
        16,
        256,
        1024,
    )
    assert settings.http.max_body_bytes == 1024 * 1024


def test_a_section_is_read_under_its_old_name_with_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(f"{LEAST}gate: {{max_queued: 7, background: {{discount: 0.25}}}}\n")
    settings = load_settings(file)
    assert (settings.admission.max_queued, settings.admission.background.discount) == (7, 0.25)
    assert caplog.messages == [
        "gate: renamed to admission; the old name works for one version more"
    ]


def test_the_new_name_of_a_section_wins_over_the_old_one(file: Path) -> None:
    file.write_text(
        f"{LEAST}gate: {{max_queued: 1, max_wait_ms: 2, background: {{discount: 1}}}}\n"
        "admission: {max_queued: 7, background: {max_queued: 8}}\n"
    )
    admission = load_settings(file).admission
    assert (admission.max_queued, admission.max_wait_ms) == (7, 2)
    assert (admission.background.max_queued, admission.background.discount) == (8, 1)


def test_the_environment_may_use_an_old_name_of_a_section(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(f"{LEAST}admission: {{max_queued: 1, max_wait_ms: 2}}\n")
    monkeypatch.setenv("LLM_SERVICE_GATE__MAX_QUEUED", "7")
    monkeypatch.setenv("LLM_SERVICE_GATE__BACKGROUND__MAX_QUEUED", "9")
    monkeypatch.setenv("LLM_SERVICE_ADMISSION__BACKGROUND__MAX_QUEUED", "8")
    admission = load_settings(file).admission
    assert (admission.max_queued, admission.max_wait_ms) == (7, 2)
    assert admission.background.max_queued == 8
    assert (
        "LLM_SERVICE_GATE__MAX_QUEUED: renamed to LLM_SERVICE_ADMISSION__MAX_QUEUED; "
        "the old name works for one version more"
    ) in caplog.messages


def test_an_unknown_key_of_an_old_section_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SERVICE_GATE__MAX_QUED", "7")
    with pytest.raises(ConfigurationError, match=r"LLM_SERVICE_GATE__MAX_QUED: .*max_queued"):
        load_settings(file)


def test_paths_are_relative_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        f"{LEAST}adapters: [{{source: ../a}}, {{source: 's3://b/c'}}]\nadapter_cache: {{path: d}}\n"
        "tenants: {keys: ../k}\n"
    )
    monkeypatch.chdir("/")
    settings = load_settings(file)
    assert settings.base.path == file.parent / "models/base"
    assert settings.adapters[0].source == str(file.parent.parent / "a")
    assert settings.adapters[1].source == "s3://b/c"
    assert settings.adapter_cache.path == file.parent / "d"
    assert settings.tenants.keys == file.parent.parent / "k"


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"{LEAST}http: {{port: 1000, ops_port: 1001}}\nengine: {{dtype: half}}\n")
    monkeypatch.setenv("LLM_SERVICE_HTTP__PORT", "2000")
    monkeypatch.setenv("LLM_SERVICE_ENGINE__MAX_MODEL_LEN", "4096")
    settings = load_settings(file)
    assert (settings.http.port, settings.http.ops_port) == (2000, 1001)
    assert settings.engine == {"dtype": "half", "max_model_len": "4096"}


def test_settings_are_frozen(file: Path) -> None:
    settings = load_settings(file)
    with pytest.raises(ValidationError, match="frozen"):
        settings.http.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.http = settings.http  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("htpp: {}", "htpp: unknown key; did you mean 'http'"),
        ("http: {prot: 1}", "http.prot: unknown key; did you mean 'port'"),
        ("adapters: [{sorce: b}]", r"adapters\[0\].sorce: unknown key; did you mean 'source'"),
        ("adapters: [{source: b, digest: abc}]", r"adapters\[0\].digest: .*got 'abc'"),
        ("adapters: [{source: b, name: 'a@1'}]", r"adapters\[0\].name: .*got 'a@1'"),
        ("adapters_on_failure: ignore", "adapters_on_failure: .*'quarantine'.*got 'ignore'"),
        ("zzz: 1", "zzz: unknown key"),
        ("1: 2", "key 1 is not text"),
        ("_env_file: x", "_env_file: unknown key"),
        ("http: {port: 70000}", "http.port: .*65535, got 70000"),
        ("http: {port: many}", "http.port: .*integer.*, got 'many'"),
        ("http: 3", "http: .*got 3"),
        ("limits: {n: 0}", "limits.n: .*1, got 0"),
        ("cpu: {cores: some}", "cpu.cores: .*got 'some'"),
        ("log: {level: loud}", "log.level: .*'debug'.*got 'loud'"),
        ("model: {name: '../x', path: y}", "model.name: .*got '../x'"),
        ("model: {name: x}", "model.path: required"),
        ("model:\n", "model: give a model, encoders, or both"),
        (
            "model: null\nencoders: [{name: a, path: b}]\nadapters: [{source: c}]",
            "adapters: belongs to a model, and `model` is not given",
        ),
        ("quotas: {storage: 'ftp://x'}", "quotas.storage: .*got 'ftp://[*]{8}'"),
        ("quotas: {on_failure: hope}", "quotas.on_failure: .*'closed'.*got 'hope'"),
        ("engine: 3", "engine: .*object with keys, got 3"),
    ],
)
def test_a_mistake_in_the_file_names_the_key_and_the_value(
    file: Path, text: str, message: str
) -> None:
    file.write_text(text if text.startswith("model") else LEAST + text)
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_settings(file)
    assert str(file) in str(refused.value)


def test_every_mistake_is_reported_at_once(file: Path) -> None:
    file.write_text("model: {}\nhttp: {port: -1}\nlimits: {n: 0}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(file)
    lines = str(refused.value).splitlines()[1:]
    places = [line.partition(":")[0].strip() for line in lines]
    assert places == ["model.name", "model.path", "http.port", "limits.n"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LLM_SERVICE_HTTP__PROT", "1", "LLM_SERVICE_HTTP__PROT: unknown key; did you mean 'port'"),
        ("LLM_SERVICE_HTPP__PORT", "1", "LLM_SERVICE_HTPP__PORT: unknown key; did you mean 'http'"),
        ("LLM_SERVICE_HTTP__PORT", "x", "http.port: .*got 'x'"),
        ("LLM_SERVICE_ADAPTERS", "[{", "adapters"),
        ("LLM_SERVICE_HTTP", "nonsense", "http"),
    ],
)
def test_a_mistake_in_the_environment_names_the_key(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "must hold `key: value` lines, got a list"),
        (b"", "must hold `key: value` lines, got nothing"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\xfa", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_what_is_named_like_a_secret_is_never_shown() -> None:
    engine = {
        "hf_token": "hf_abc",
        "max_num_seqs": 4,
        "kv_transfer_config": {"api_key": ["a", "b"], "port": 1},
        "tokenizer": "folder",
        "skip_tokenizer_init": False,
    }
    model = ModelSettings(name="base", path=Path("base"))
    assert mask_all(Settings(model=model, engine=engine))["engine"] == {
        "hf_token": "********",
        "max_num_seqs": 4,
        "kv_transfer_config": {"api_key": ["********", "********"], "port": 1},
        "tokenizer": "folder",
        "skip_tokenizer_init": False,
    }


@pytest.mark.parametrize(
    "mistake",
    [
        "quotas: {storage: 'reddis://:hunter2@host:6379'}",
        "quotas: {storage: 'redis:/:hunter2@host'}",
        "quotas: 'redis://:hun@hunter2@host:6379'",
        "tracing: {endpoint: 'https://host/path?token=hunter2'}",
        "quotas: {storage: 'redis://:hunter2@host' 'twice'}",
        "http: {control_token: hunter2}",
        "feedback: {key: hunter2}",
        "feedback: {key: hunter2hunter2hunter2hunter2hunter2hunter2, key_file: a}",
    ],
)
def test_a_secret_in_a_mistake_is_not_shown(file: Path, mistake: str) -> None:
    file.write_text(f"{LEAST}{mistake}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(file)
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    tree = {
        "model": {"name": "base", "path": "base"},
        "quotas": {"storage": "redis://user:hunter2@host:6379/0?password=hunter2"},
        "http": {"control_token": "hunter2" * 3},
    }
    masked = mask_all(Settings.model_validate(tree))
    assert masked["quotas"]["storage"] == "redis://********"
    assert "hunter2" not in str(masked)


def test_a_name_too_long_to_be_a_slip_is_not_compared() -> None:
    assert nearest("temprature", ["top_p", "temperature"]) == "; did you mean 'temperature'?"
    assert nearest("a" * 65, ["a" * 66]) == ""


@pytest.mark.parametrize(
    ("pushed", "engine", "client"),
    [(False, {}, "stock"), (True, {}, None), (False, {"client": "auto"}, "auto")],
)
def test_a_key_of_the_last_version_is_taken_with_a_warning(
    pushed: bool, engine: dict[str, str], client: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.model_validate(
        {
            "model": {"name": "m", "path": "m"},
            "engine": engine,
            "http": {"push_streams": pushed, "port": 1},
        }
    )
    assert settings.engine.get("client") == client
    assert settings.http.port == 1
    assert "engine.client" in caplog.text
