"""Answers to plain bodies, streamed or whole, without vLLM's handlers."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from service.vllm.client import GatedClient
from service.vllm.errors import explain
from service.vllm.fast.plain.request import PlainRequest, PlainRequests
from service.vllm.fast.plain.stream import PlainStream, PlainStreams
from service.vllm.fast.plain.whole import PlainWholes
from service.vllm.generation import Generation


class PlainKind(Protocol):
    """One of vLLM's handlers: the answers that it makes of `probes`, and requests for it."""

    handler: Any
    requests: PlainRequests
    prefix: str
    """Beginning of the answers' ids."""

    def takes(self, body: Mapping[str, Any]) -> bool:
        """True for an accepted body that is plain."""

    def events(self, usage: bool) -> AsyncGenerator[str, None]:
        """The events of a stream, with or without usage."""

    async def whole(self) -> BaseModel:
        """The answer that is not streamed."""

    async def generation(self, client: GatedClient, plain: PlainRequest) -> Generation:
        """The generation that a request asks for."""


class PlainAnswers:
    """Answers plain bodies as a handler of vLLM's does, byte for byte.

    The fields, which were checked, are put into a request of vLLM's without its validation. That
    request makes the sampling parameters, as for the handler, and vLLM's renderer the prompt.
    """

    def __init__(
        self, client: GatedClient, kind: PlainKind, streams: PlainStreams, wholes: PlainWholes
    ) -> None:
        self._client = client
        self._kind = kind
        self.streams = streams
        self.wholes = wholes

    @classmethod
    async def of(cls, client: GatedClient, kind: PlainKind) -> "PlainAnswers | None":
        """Answers in the place of a handler; None if its configuration adds to plain answers."""
        config, handler = client.vllm_config, kind.handler
        more = (
            getattr(handler, "parser_cls", None)
            or handler.enable_force_include_usage
            or handler.enable_per_request_metrics
            or config.speculative_config
            or config.kv_transfer_config
            or config.ec_transfer_config
            or config.aux_output_config.enable_return_routed_experts
        )
        if more:
            return None
        streams = await PlainStreams.of(client, handler, kind.prefix, kind.events)
        wholes = PlainWholes(client, handler, kind.prefix, await kind.whole())
        return cls(client, kind, streams, wholes)

    def takes(self, body: Mapping[str, Any]) -> bool:
        """True for an accepted body whose fields vLLM's model would take as they are."""
        return self._kind.takes(body)

    async def answer(self, body: Mapping[str, Any]) -> bytes | PlainStream:
        """The JSON of the answer to a plain body, or its stream; raises ServiceError."""
        try:
            return await self._answered(body)
        except Exception as error:
            raise explain(error) or error from error

    async def _answered(self, body: Mapping[str, Any]) -> bytes | PlainStream:
        if self._client.errored:
            raise self._client.dead_error
        plain = self._kind.requests.make(body)
        made = await self._kind.generation(self._client, plain)
        if plain.request.stream:
            return self.streams.make(plain.request, made)
        return await self.wholes.answer(made)
