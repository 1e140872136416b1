"""Settings of engines that others run."""

from typing import Annotated

from pydantic import Field, SecretStr

from service.settings.section import Section

Address = Annotated[str, Field(pattern=r"^https?://[^/\s?#@]+(/[^\s?#]*)?$")]


class RemoteSettings(Section):
    """How engines that others run are reached (`engine.client: remote`)."""

    url: Address | None = Field(
        None,
        description="Address of vLLM's server, or of a router before several; `engine.client: "
        "remote` needs it.",
    )
    key: SecretStr | None = Field(
        None,
        min_length=1,
        description="The servers' API key, sent as a bearer token; put it into "
        "`LLM_SERVICE_REMOTE__KEY`.",
    )
    model: str | None = Field(
        None, min_length=1, description="Name of the model there; default `model.name`."
    )
    engines: tuple[Address, ...] = Field(
        (),
        description="Addresses of the engines behind the router, to which adapters are loaded. A "
        "name counts as every address that it resolves to. Default: `remote.url`.",
    )
    echoes: bool = Field(
        False,
        description="Ask the engines for log-probabilities of prompts. vLLM 0.32's CPU build ends "
        "at such a request where it serves adapters.",
    )
    wait_s: float = Field(
        120.0, gt=0, description="Time that a start waits until the engines answer."
    )
    connect_s: float = Field(5.0, gt=0, description="Longest time to open a connection.")
    silence_s: float = Field(
        60.0,
        gt=0,
        description="Time without a byte of an answer after which its engine counts as lost; "
        "waiting in the engine's queue is silent, too.",
    )
