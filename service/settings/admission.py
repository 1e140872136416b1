"""Settings of admission control, and of the work before it."""

from typing import Literal

from pydantic import Field

from service.settings.section import REDIS_ADDRESS, Section, ServedName


class BackgroundSettings(Section):
    """Requests of the service tier `flex`, which use the capacity that interactive ones leave."""

    max_in_flight: int | None = Field(
        None,
        ge=1,
        description="Sequences of flex requests in the engine while interactive requests come; "
        "null is all but a sixteenth of the slots. Fewer make the others' tokens faster on CPUs.",
    )
    max_queued: int = Field(
        1024, ge=0, description="Flex requests that may wait; more are refused."
    )
    default_timeout_ms: int = Field(
        600_000,
        ge=1,
        description="Deadline of flex requests that state none; the timeout of OpenAI's SDKs.",
    )
    max_timeout_ms: int = Field(
        3_600_000, ge=1, description="Longest deadline a flex request may ask for."
    )
    discount: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Part of a flex token's price that does not count against its tenant's turn "
        "among interactive requests.",
    )


class AdmissionSettings(Section):
    """The queue in front of the engine."""

    max_in_flight: int | None = Field(
        None,
        ge=1,
        description="Sequences in the engine at once; default its `max_num_seqs`.",
    )
    min_in_flight: int = Field(
        4,
        ge=1,
        description="Lowest limit on the sequences in the engine, however slow it is; at most "
        "`max_in_flight`.",
    )
    max_queued: int = Field(
        256,
        ge=0,
        description="Requests that may wait; more are refused, except those of a tenant within its "
        "share.",
    )
    max_wait_ms: int = Field(
        1_000,
        ge=0,
        description="Refuse at once (load shedding) a request that would wait longer and states no "
        "deadline.",
    )
    max_patience_ms: int = Field(
        60_000,
        ge=0,
        description="The same for a request that states a deadline, as the SDKs of OpenAI and "
        "Anthropic do with their timeout.",
    )
    refusals_at_once_per_s: int = Field(
        50,
        ge=0,
        description="Refusals of a tenant that are sent at once in each second; later ones wait "
        "at most two seconds. Raise it where a gateway sends many users' requests on few "
        "connections.",
    )
    target_token_ms: int | None = Field(
        200,
        ge=1,
        description="While a token takes longer than this, give the engine fewer sequences; null: "
        "never.",
    )
    default_timeout_ms: int = Field(
        60_000, ge=1, description="Deadline of requests that state none."
    )
    max_timeout_ms: int = Field(600_000, ge=1, description="Longest deadline a client may ask for.")
    at_deadline: Literal["refuse", "length"] = Field(
        "refuse",
        description="If a generation runs at its deadline: `refuse` ends it with 504, `length` "
        "with the text so far, if there is any.",
    )
    storage: str | None = Field(
        None,
        pattern=rf"^{REDIS_ADDRESS}",
        description="Redis or Valkey, an address as `quotas.storage`, through which replicas "
        "share tenants' counters; null: each replica is fair alone.",
    )
    pool: ServedName | None = Field(
        None,
        description="Name of the replicas that share; by default all that use the storage and "
        "serve the same model name.",
    )
    exchange_ms: int = Field(
        200,
        ge=20,
        le=10_000,
        description="Time between two exchanges with the storage.",
    )
    background: BackgroundSettings = BackgroundSettings()


class PreparationSettings(Section):
    """Settings of the work before admission: tokenising, rendering and compiling, in fair turns."""

    threads: int = Field(
        2,
        ge=1,
        description="Threads that tokenise text; one tenant uses at most all but one.",
    )
    max_waiting: int = Field(
        256, ge=1, description="Texts and structures that may wait; more are refused."
    )
    compilers: int = Field(
        2,
        ge=1,
        description="Structures (schemas, regexes, choices) compiled at once, each in its own "
        "process; one tenant uses at most all but one.",
    )
    structure_ms: int = Field(
        5_000,
        ge=10,
        description="CPU time that compiling a structure may take, in ms. Most take less than 20, "
        "a `maxLength` of 200 or more 1,700.",
    )
    mask_ms: int = Field(
        20,
        ge=1,
        description="CPU time, in ms, in which the tokens that a structure allows next must be "
        "found; the engine does this before each token. Ordinary structures take less than 1.",
    )
    structure_mib: int = Field(
        512, ge=16, description="Memory that compiling a structure may take, in MiB."
    )
