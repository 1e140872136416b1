"""Whole answers to plain requests."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from service.context import current_context
from service.vllm.client import GatedClient
from service.vllm.fast.plain.events import own_fields, with_end, with_usage
from service.vllm.generation import Generation, Last
from service.vllm.named_tier import named_tier


class PlainWholes:
    """Makes the whole answers of one of vLLM's handlers, whose ids begin with `prefix`.

    `probe` is the handler's answer to `probes`. Every answer is a copy of it with the values of its
    own generation.
    """

    def __init__(self, client: GatedClient, handler: Any, prefix: str, probe: BaseModel) -> None:
        self._client = client
        self._handler = handler
        self._prefix = prefix
        self._shape = probe.model_dump()

    async def answer(self, generation: Generation) -> bytes:
        """Run a generation; returns the JSON of its answer. Raises as `GatedClient.push`."""
        own, last = own_fields(self._prefix), Last()
        await self._client.push(generation, last)
        assert last.output is not None
        (said,) = last.output.outputs
        self._handler._raise_if_error(said.finish_reason, own["id"])
        (choice,) = self._shape["choices"]
        filled = {
            "choices": [with_end(choice, said.text, said)],
            "service_tier": named_tier(current_context()),
            "usage": with_usage(self._shape["usage"], last.output, len(said.token_ids)),
        }
        return to_json({**self._shape, **own, **filled})
