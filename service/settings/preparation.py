"""Settings of the work that a request causes before the gate."""

from pydantic import Field

from service.settings.section import Section


class PreparationSettings(Section):
    """Settings of the work before the gate: tokenising, rendering and compiling, in fair turns."""

    threads: int = Field(
        2,
        ge=1,
        description="Threads that tokenise text. One tenant uses at most all but one, so that no "
        "other tenant waits for its longest text.",
    )
    max_waiting: int = Field(
        256, ge=1, description="Texts and structures that may wait; more are refused."
    )
    compilers: int = Field(
        2,
        ge=1,
        description="Structures (schemas, regexes, choices) that are compiled at once, each in its "
        "own process. One tenant uses at most all but one.",
    )
    structure_ms: int = Field(
        5_000,
        ge=10,
        description="Time of one core that compiling a structure may take, in ms. A `maxLength` of "
        "200 or more takes 1,700 on a slow core and 3,500 beside other work, most schemas take "
        "less than 20.",
    )
    mask_ms: int = Field(
        20,
        ge=1,
        description="Time of one core in which the tokens that a structure allows next must be "
        "found, in ms, in walks through it before it is accepted. The engine does this before each "
        "token of each sequence; ordinary structures take less than 1, the dearest 10.",
    )
    structure_mib: int = Field(
        512, ge=16, description="Memory that compiling a structure may take, in MiB."
    )
