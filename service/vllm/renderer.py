"""vLLM's renderer in the fair turns of the stage."""

from functools import partial
from typing import Any

from service.context import current_context
from service.gate.preparation import Preparation

USES = (
    "extends vllm.renderers.base:BaseRenderer.render_chat_async",
    "extends vllm.renderers.base:BaseRenderer.render_cmpl_async",
)
"""What of vLLM this module stands on (docs/vllm.md)."""


class StagedRenderer:
    """Stands in for vLLM's renderer, for its OpenAI handlers.

    Templates and tokenisers run in a thread of the stage, at the cost of the request's whole body;
    other calls go to vLLM's renderer, whose own threads are first come, first served.
    """

    def __init__(self, renderer: Any, preparation: Preparation) -> None:
        self._renderer = renderer
        self._preparation = preparation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    async def render_cmpl_async(self, *prompts: Any, **options: Any) -> Any:
        """Tokenise the prompts of a completion; raises what `Preparation.run` raises."""
        return await self._run(partial(self._renderer.render_cmpl, *prompts, **options))

    async def render_chat_async(self, *conversations: Any, **options: Any) -> Any:
        """Apply the chat template and tokenise; raises what `Preparation.run` raises."""
        return await self._run(partial(self._renderer.render_chat, *conversations, **options))

    async def _run(self, render: partial[Any]) -> Any:
        return await self._preparation.run(current_context().body_bytes, render)
