"""The one typed tree of settings; LLM_SERVICE_* variables override what it is made from."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.settings.preparation import PreparationSettings
from service.settings.section import Section
from service.settings.telemetry import LogSettings, MetricsSettings, SloSettings, TracingSettings

ENV_PREFIX = "LLM_SERVICE_"
NESTING = "__"
_MAX_LORA_RANK = 16  # vLLM's default

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]


class ModelSettings(Section):
    """The base model."""

    name: ServedName = Field(description="Name that requests use in `model`.")
    path: Path = Field(description="Folder of the model, relative to this file.")


class CpuSettings(Section):
    """Use of this machine by the engine's CPU build; a CUDA build ignores it."""

    cores: str = Field(
        "all",
        pattern=r"^(all|auto|nobind|\d+(-\d+)?(,\d+(-\d+)?)*)$",
        description="`all` cores of this process, vLLM's `auto` (keeps one back), `nobind`, "
        "or a list such as `0-3,8`.",
    )
    kv_cache_gib: int = Field(1, ge=1, description="Memory for the KV cache, in GiB.")
    grouped_adapters: bool = Field(
        True,
        description="Multiply each adapter once per batch; vLLM's own operators are slower, and "
        "wrong for the base beside adapters once the last of `max_loras` slots is in use.",
    )


class HttpSettings(Section):
    """Where the service listens and what it accepts."""

    host: str = Field("127.0.0.1", description="Address of the public port.")
    port: int = Field(8000, ge=0, le=65535, description="Public port.")
    ops_host: str = Field("127.0.0.1", description="Address of the operations port.")
    ops_port: int = Field(
        8001, ge=0, le=65535, description="Port of probes and metrics; keep it private."
    )
    control_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token for `POST /drain` and `POST /adapters/reload` on the operations "
        "port, at least 16 characters; default none, and only callers on this machine may. Put it "
        "into `LLM_SERVICE_HTTP__CONTROL_TOKEN`.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names in `Host` that are served, besides addresses and names without a dot, "
        "on the operations port and, where callers need no key, on a public port of the loopback; "
        "`*.example.com` is every name below, `*` every name.",
    )
    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest body, counted as read.")
    tenant_body_bytes: int = Field(
        64 << 20, ge=1024, description="Bytes of one tenant's bodies that are not complete yet."
    )
    max_connections: int = Field(4096, ge=1, description="Connections to the public port.")
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="Time that an idle connection stays open. A load balancer in front must give "
        "idle connections up earlier, or it meets one that closes: AWS's does after 60 s, "
        "Google's after 600.",
    )
    body_timeout_ms: int = Field(10_000, ge=100, description="Time a client has to send its body.")


class GateSettings(Section):
    """The queue in front of the engine."""

    max_in_flight: int | None = Field(
        None, ge=1, description="Sequences in the engine at once; default its `max_num_seqs`."
    )
    min_in_flight: int = Field(
        4,
        ge=1,
        description="The engine is never given less at once, however slow it is; at most "
        "`max_in_flight`. A few clients with one request each at a time are never refused.",
    )
    max_queued: int = Field(
        256,
        ge=0,
        description="Requests that may wait; more are refused, but for those of a tenant within "
        "its share and the later parts of a request that was admitted.",
    )
    max_wait_ms: int = Field(
        1_500,
        ge=0,
        description="Refuse at once what is expected to wait longer, whatever its deadline. "
        "It and the prefill make up the time to first token; raise it for batch work.",
    )
    target_token_ms: int | None = Field(
        250,
        ge=1,
        description="Give the engine less at once while a token takes longer than this; "
        "null never does.",
    )
    default_timeout_ms: int = Field(60_000, ge=1, description="Deadline when none is asked for.")
    max_timeout_ms: int = Field(600_000, ge=1, description="Longest deadline a client may ask for.")


class DrainSettings(Section):
    """Times of a drain, which SIGTERM or `POST /drain` begins."""

    lame_duck_s: float = Field(
        5.0,
        ge=0,
        description="Time that it is not ready and still serves, while load balancers take notice.",
    )
    budget_s: float = Field(
        30.0, ge=0, description="Time after that for accepted requests to finish."
    )


class WatchdogSettings(Section):
    """When an engine that makes no step is taken for stalled."""

    stall_s: float = Field(
        6.0,
        gt=0,
        description="Time without a step, with work to do, that makes it stalled, unless its "
        "processes use the CPU or a recent step took more than a quarter of it.",
    )
    longest_step_s: float = Field(
        60.0,
        gt=0,
        description="Time without a step that makes it stalled whatever it does: on a machine "
        "whose cores others use one step may take many seconds.",
    )
    probe_s: float = Field(
        3.0, gt=0, description="How often an idle engine is given a step to make."
    )
    restart_s: float = Field(
        60.0, gt=0, description="Time stalled after which `/livez` asks for a restart."
    )


class LimitSettings(Section):
    """Caps on every request, checked before the engine sees it."""

    n: int = Field(16, ge=1, description="Sequences per prompt.")
    prompts: int = Field(64, ge=1, description="Prompts in one OpenAI completion request.")
    messages: int = Field(512, ge=1, description="Messages in one conversation.")
    stop: int = Field(8, ge=0, description="Stop strings.")
    stop_bytes: int = Field(256, ge=1, description="Length of one stop string, in bytes.")
    stop_token_ids: int = Field(64, ge=0, description="Stop token ids.")
    bad_words: int = Field(64, ge=0, description="Words that must not be generated.")
    logprobs: int = Field(20, ge=0, description="Top log-probabilities per token.")
    answer_logprobs: int = Field(
        16_384, ge=1, description="Log-probabilities in one OpenAI answer that is not streamed."
    )
    echo_logprobs: int = Field(
        4096, ge=1, description="Log-probabilities of a request's echoed prompts, streamed or not."
    )
    logit_bias: int = Field(300, ge=0, description="Entries in `logit_bias`.")
    allowed_token_ids: int = Field(1024, ge=0, description="Entries in `allowed_token_ids`.")
    choices: int = Field(256, ge=1, description="Entries in a structured `choice`.")
    choice_bytes: int = Field(1024, ge=1, description="Length of one `choice` entry, in bytes.")
    choices_bytes: int = Field(
        32 * 1024, ge=1, description="Length of all entries of a `choice` together, in bytes."
    )
    schema_bytes: int = Field(16 * 1024, ge=2, description="Size of a JSON schema, in bytes.")
    schema_depth: int = Field(16, ge=1, description="Nesting of a JSON schema.")
    regex_bytes: int = Field(1024, ge=1, description="Length of a regex or grammar, in bytes.")
    tools: int = Field(64, ge=0, description="Tools in one chat request.")
    tools_bytes: int = Field(
        64 * 1024, ge=2, description="Size of the schemas of a request's tools together, in bytes."
    )
    classify_inputs: int = Field(256, ge=1, description="Inputs in one classification request.")
    candidate_labels: int = Field(256, ge=2, description="Labels in one classification request.")
    label_bytes: int = Field(256, ge=1, description="Length of one label, in bytes.")


class AdapterSettings(Section):
    """A fine-tuned adapter, verified, loaded and proven before the service is ready."""

    source: str = Field(
        min_length=1,
        description="Folder of the adapter, relative to this file, or its address: `hf://`, "
        "`s3://`, `gs://`, `az://`, `https://`, `oci://`.",
    )
    name: ServedName | None = Field(
        None, description="Name that requests use in `model`; default the manifest's own."
    )
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="The manifest's digest; anything else at the source is refused.",
    )
    required: bool = Field(
        True, description="Whether its failure ends the start; else it is quarantined."
    )


class AdapterCacheSettings(Section):
    """Where fetched adapters are kept."""

    path: Path = Field(
        Path(".cache/adapters"),
        description="Folder of the cache, relative to this file; the default to where it starts.",
    )
    offline: bool = Field(False, description="Never ask a source; serve what the cache holds.")
    unused_days: float = Field(
        7.0,
        ge=0,
        description="Time after which an entry that no running service uses is removed, at a start "
        "or reload.",
    )


class TenantSettings(Section):
    """Callers of the service; the keys file says what each may do."""

    keys: Path | None = Field(
        None,
        description="Keys file, or folder of keys files such as a mounted Secret, relative to this "
        "file; read again when it changes.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Without `keys`, serve whoever reaches an address other than the loopback.",
    )


class QuotaSettings(Section):
    """Counting of the tenants' quotas."""

    storage: str = Field(
        "memory://",
        pattern=r"^(memory://$|(rediss?|valkeys?|redis\+cluster|redis\+sentinel)://.)",
        description="Where counts are kept: `memory://`, or for all replicas together "
        "`redis://host:6379`, `valkey://...`, `rediss://...`, `redis+cluster://...`, "
        "`redis+sentinel://.../name`.",
    )
    on_failure: Literal["open", "closed"] = Field(
        "open",
        description="While the storage is dead, let each replica count by itself or answer 503.",
    )
    timeout_ms: int = Field(
        100, ge=1, le=10_000, description="Longest wait for the storage, per engine request."
    )


class Settings(BaseSettings):
    """The effective configuration, frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=NESTING,
        allow_inf_nan=False,
    )

    model: ModelSettings
    engine: dict[str, Any] = Field(
        default_factory=dict,
        description="vLLM's own engine arguments by name, passed through its own parser.",
    )
    cpu: CpuSettings = CpuSettings()
    http: HttpSettings = HttpSettings()
    gate: GateSettings = GateSettings()
    preparation: PreparationSettings = PreparationSettings()
    drain: DrainSettings = DrainSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    limits: LimitSettings = LimitSettings()
    tenants: TenantSettings = TenantSettings()
    quotas: QuotaSettings = QuotaSettings()
    adapters: tuple[AdapterSettings, ...] = ()
    adapter_cache: AdapterCacheSettings = AdapterCacheSettings()
    adapters_on_failure: Literal["refuse_start", "quarantine"] = Field(
        "refuse_start",
        description="When a required adapter fails: end the start, or serve the rest and answer "
        "503 for that one.",
    )
    golden_timeout_s: float = Field(
        60.0, gt=0, description="Time that an adapter's proof may take."
    )
    require_proof: bool = Field(
        False,
        description="Refuse an adapter that could not be called proven: one without golden "
        "examples or without a fingerprint.",
    )
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    slo: SloSettings = SloSettings()

    @property
    def max_lora_rank(self) -> int:
        """The engine's `max_lora_rank`: what is configured, else vLLM's default."""
        for key in ("max_lora_rank", "max-lora-rank"):
            # What is no number at all is for vLLM's own parser to refuse.
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
        return (env_settings, init_settings)
