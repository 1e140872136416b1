"""The typed tree of all settings; LLM_SERVICE_* variables override the file."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, create_model, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.common.entry_points import load_group
from service.errors import ConfigurationError
from service.settings import section as platform
from service.settings.adapters import (
    AdapterCacheSettings,
    AdapterSettings,
    PlannedAdapter,
    PluginSection,
    SourceSettings,
    TrustSettings,
)
from service.settings.admission import AdmissionSettings, PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.limits import LimitSettings, SamplingDefaults
from service.settings.names import ENV_PREFIX, NESTING, with_new_names, with_new_variables
from service.settings.remote import RemoteSettings
from service.settings.section import REDIS_ADDRESS, Section, ServedName
from service.settings.telemetry import LogSettings, MetricsSettings, SloSettings, TracingSettings

S = TypeVar("S", bound=PluginSection)

_MAX_LORA_RANK = 16  # vLLM's default

Origin = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s*]+)$")]


class ModelSettings(Section):
    """The base model; a service of encoders alone has none."""

    name: ServedName = Field(description="Name that requests use in `model`.")
    path: Path = Field(description="Folder of the model, relative to this file.")
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Digest that `model fetch` or `model pin` printed; every start reads all "
        "files. Or the base's own digest, as the log names it, checked without reading the "
        "weights.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Variables of the model's chat template, also for classification. A thinking "
        "model such as Qwen3 needs `enable_thinking: false` to classify.",
    )
    sampling: SamplingDefaults = Field(
        SamplingDefaults(),
        description="For requests that set nothing, before the model's own. See `GET /v1/models`.",
    )
    special_tokens_in_messages: Literal["text", "template"] = Field(
        "text",
        description="What a special token's spelling, such as `<|im_end|>`, is in messages: plain "
        "`text`, or the token (`template`), with which a user's text can end its turn.",
    )


class CpuSettings(Section):
    """How the engine's CPU build uses this machine; a CUDA build ignores it."""

    cores: str = Field(
        "all",
        pattern=r"^(all|auto|\d+(-\d+)?(,\d+(-\d+)?)*)$",
        description="Cores of the engine: `all` of this process, vLLM's `auto` (leaves one free), "
        "or a list such as `0-3,8`. Under a container's CPU limit `all` runs a thread for each CPU "
        "of the limit, not bound.",
    )
    kv_cache_gib: int = Field(1, ge=1, description="Memory for the KV cache, in GiB.")
    compiled_products: int = Field(
        1024,
        ge=64,
        le=16384,
        description="Kernels that oneDNN keeps compiled in each engine, of half a megabyte each, "
        "with adapters twice that. With 256, many chats at once take 4 to 7 % longer.",
    )
    grouped_adapters: bool = Field(
        True,
        description="Multiply each adapter once per batch. vLLM's own operators are slower, and "
        "answer the base wrongly once all `max_loras` slots are in use.",
    )


class HttpSettings(Section):
    """Ports of the service, and limits on connections and bodies."""

    host: str = Field("127.0.0.1", description="Address of the public port.")
    port: int = Field(8000, ge=0, le=65535, description="Public port.")
    ops_host: str = Field("127.0.0.1", description="Address of the admin port.")
    ops_port: int = Field(
        8001, ge=0, le=65535, description="Port of probes and metrics; keep it private."
    )
    control_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token, at least 16 characters, for `POST`, `PUT` and `DELETE` on the "
        "admin port. Without one only callers on this machine may use these.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names with a dot that `Host` may have on the admin port and, without keys, on "
        "a public port of the loopback; `*.example.com` and `*` are patterns. Always accepted: "
        "addresses, names without a dot, `host.docker.internal`.",
    )
    cors_origins: tuple[Origin, ...] | None = Field(
        None,
        description="Origins whose pages may call the public port, as `https://chat.example.com`; "
        "`*` is every origin, but without keys each must be listed. Default: any port of "
        "`http://localhost` if `http.host` is the loopback, else none.",
    )
    console: bool = Field(
        True,
        description="Serve `/console`: a page to try the service, and on the admin port a live "
        "view.",
    )
    behind_router: bool = Field(
        False,
        description="A router in front chooses between replicas by what they answer: 503 only "
        "means `send nothing here`, other refusals are 429, missed deadlines 408. See "
        "docs/howto/routers.md.",
    )
    max_body_bytes: int = Field(
        1 << 20, ge=1024, description="Largest body, in bytes, after decompression."
    )
    tenant_body_bytes: int = Field(
        64 << 20, ge=1024, description="Bytes that one tenant's incomplete bodies may hold."
    )
    max_connections: int = Field(4096, ge=1, description="Connections to the public port at once.")
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="Time after which an idle connection is closed. A load balancer in front must "
        "close idle ones earlier (AWS's: 60 s, Google's: 600 s).",
    )
    body_timeout_ms: int = Field(10_000, ge=100, description="Time for a client to send its body.")


class DrainSettings(Section):
    """Times of a drain, which SIGTERM or `POST /drain` begins."""

    lame_duck_s: float = Field(
        5.0, ge=0, description="Time not ready but still serving, in which load balancers notice."
    )
    budget_s: float = Field(
        30.0, ge=0, description="Time after `lame_duck_s` in which accepted requests may finish."
    )


class WatchdogSettings(Section):
    """Times after which an engine that makes no step counts as stalled."""

    stall_s: float = Field(
        default_factory=lambda: platform.installed().stall_s,
        gt=0,
        description="Time with work but no step after which the engine counts as stalled, unless "
        "its processes use the CPU. Default 6 on the CPU build, 30 on CUDA.",
    )
    longest_step_s: float = Field(
        60.0,
        gt=0,
        description="Time without a step after which the engine counts as stalled even if it uses "
        "the CPU.",
    )
    probe_s: float = Field(
        10.0, gt=0, description="Time after which an idle engine gets one token to compute."
    )
    restart_s: float = Field(
        60.0, gt=0, description="Time stalled after which `/livez` asks for a restart with 503."
    )


class TenantSettings(Section):
    """Callers of the service; the keys file says what each may do."""

    keys: Path | None = Field(
        None,
        description="Keys file, or folder of keys files such as a mounted Secret; read again when "
        "it changes.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Without `keys`, serve all callers also on an address other than the loopback.",
    )


class QuotaSettings(Section):
    """Counting of the tenants' quotas."""

    storage: str = Field(
        "memory://",
        pattern=rf"^(memory://$|{REDIS_ADDRESS})",
        description="Store of the counts: `memory://` (each replica alone), or for all replicas "
        "`redis://host:6379`, `valkey://...`, `rediss://...`, `redis+cluster://...`, "
        "`redis+sentinel://.../name`.",
    )
    on_failure: Literal["open", "closed"] = Field(
        "open",
        description="While the storage is down: `open` counts in each replica, `closed` answers "
        "503.",
    )
    timeout_ms: int = Field(
        100, ge=1, le=10_000, description="Longest wait for the storage, per engine request."
    )


class Settings(BaseSettings):
    """The effective configuration, frozen.

    An instance is of `settings_type`, which has the sections of plugins, too. Plugins are loaded
    when the first instance is made, because their modules import this one.
    """

    if TYPE_CHECKING:

        def __init__(self, **sections: Any) -> None: ...

    def __new__(cls, **sections: Any) -> Self:
        return super().__new__(settings_type() if cls is Settings else cls)  # type: ignore[return-value]

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=NESTING,
        allow_inf_nan=False,
    )

    model: ModelSettings | None = None
    engine: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's own arguments by name, and `client`: `stock` is vLLM's public client, "
        "`fast` its internals at half the CPU cost, `auto` (default) fast on tested versions, "
        "`remote` HTTP.",
    )
    remote: RemoteSettings = RemoteSettings()
    encoders: tuple[EncoderSettings, ...] = ()
    cpu: CpuSettings = CpuSettings()
    http: HttpSettings = HttpSettings()
    admission: AdmissionSettings = AdmissionSettings()
    preparation: PreparationSettings = PreparationSettings()
    drain: DrainSettings = DrainSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    limits: LimitSettings = LimitSettings()
    tenants: TenantSettings = TenantSettings()
    quotas: QuotaSettings = QuotaSettings()
    sources: SourceSettings = SourceSettings()
    adapters: tuple[AdapterSettings, ...] = ()
    adapters_path: Path | None = Field(
        None,
        description="In place of `adapters`: YAML file with a list `adapters`, or folder of such "
        "files, such as a mounted ConfigMap. Replicas follow its changes without a restart; each "
        "entry has a `name`, and one that fails ends no start.",
    )
    adapter_cache: AdapterCacheSettings = AdapterCacheSettings()
    adapter_trust: TrustSettings = TrustSettings()
    adapters_on_failure: Literal["refuse_start", "quarantine"] = Field(
        "refuse_start",
        description="If a required adapter fails: `refuse_start` ends the start, `quarantine` "
        "answers its requests with 503.",
    )
    golden_timeout_s: float = Field(
        60.0,
        gt=0,
        description="Time that the validation of an adapter or head may take.",
    )
    require_proof: bool = Field(
        False,
        description="Refuse adapters without golden examples or without a fingerprint.",
    )
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    slo: SloSettings = SloSettings()

    _renamed = model_validator(mode="before")(with_new_names)

    @model_validator(mode="after")
    def _something_served(self) -> Self:
        if self.model is None and not self.encoders:
            raise ValueError("model: give a model, encoders, or both")
        for name in ("engine", "adapters", "adapters_path"):
            if self.model is None and getattr(self, name):
                raise ValueError(f"{name}: belongs to a model, and `model` is not given")
        if self.remote.url is not None and self.engine.get("client") != "remote":
            raise ValueError("remote.url: without effect unless `engine.client` is `remote`")
        if self.adapters and self.adapters_path:
            raise ValueError("adapters_path: only one of it and `adapters` may be given")
        return self

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        base = [] if self.model is None else [self.model.name]
        names = [*base, *(each.name for each in self.encoders)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"encoders: the name {name!r} is taken already")
        return self

    @model_validator(mode="after")
    def _plugins_fit(self) -> Self:
        for section in self._plugin_sections():
            section.check(self)
        return self

    def section(self, kind: type[S]) -> S:
        """The section of a plugin; LookupError if the plugin is not installed."""
        for section in self._plugin_sections():
            if isinstance(section, kind):
                return section
        raise LookupError(f"the settings have no {kind.__name__}")

    def _plugin_sections(self) -> Iterator[PluginSection]:
        return (value for _, value in self if isinstance(value, PluginSection))

    @property
    def planned_adapters(self) -> dict[str, PlannedAdapter]:
        """Further versions of configured adapters to load, by the adapter's name."""
        return {
            name: planned
            for section in self._plugin_sections()
            for name, planned in section.planned_adapters().items()
        }

    @property
    def wanted_adapters(self) -> tuple[AdapterSettings, ...]:
        """All adapters to load: those configured, then the versions that are planned for them."""
        return (*self.adapters, *(planned.wanted for planned in self.planned_adapters.values()))

    @property
    def has_adapters(self) -> bool:
        """True if adapters are served, or may be later."""
        return bool(self.adapters) or self.adapters_path is not None

    @property
    def base(self) -> ModelSettings:
        """The model; ConfigurationError in a configuration of encoders alone."""
        if self.model is None:
            raise ConfigurationError("model: not given; this configuration has encoders only")
        return self.model

    @property
    def max_lora_rank(self) -> int:
        """The engine's `max_lora_rank`: the configured value, else vLLM's default."""
        for key in ("max_lora_rank", "max-lora-rank"):
            # vLLM's own parser refuses a value that is not a number.
            if str(self.engine.get(key, "")).isdecimal():
                return int(self.engine[key])
        return _MAX_LORA_RANK

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = with_new_variables(env_settings.env_vars)
        return (env_settings, init_settings)


@cache
def settings_type() -> type[Settings]:
    """The settings with the sections of the installed plugins."""
    sections = load_group("llm_service.settings")
    fields: Any = {name: (kind, kind()) for name, kind in sections.items()}
    return create_model("Settings", __base__=Settings, __doc__=Settings.__doc__, **fields)
