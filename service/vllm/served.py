"""A language model whose texts and chats are read with vLLM's libraries."""

from service.generation.served_model import ServedModel
from service.vllm.self_check import check_calls


class VllmModel(ServedModel):
    """A language model, whatever the client of vLLM; its warm-up tries one tool call."""

    async def warm_up(self) -> None:
        """Run each code path of the engine once, and try a tool call if calls can be parsed."""
        await super().warm_up()
        if self.chats.calls_tools:
            await check_calls(self)
