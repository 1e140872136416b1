"""A language model whose texts and chats are read with vLLM's libraries."""

from argparse import Namespace
from typing import Any

from service.admission.admitted import StreamObserver
from service.admission.controller import AdmissionController
from service.admission.preparation import Preparation
from service.engine.contract import LanguageEngine
from service.generation.served_model import ServedModel
from service.settings.tree import Settings
from service.vllm.argument_checks import by_vllms_names
from service.vllm.chats import VllmChats
from service.vllm.self_check import check_calls
from service.vllm.structured_outputs import GrammarSandbox, VllmStructures
from service.vllm.texts import VllmTexts
from service.vllm.tool_parsers import check_parser


class VllmModel(ServedModel):
    """A language model, whatever the client of vLLM; its warm-up tries one tool call."""

    async def warm_up(self) -> None:
        """Run each code path of the engine once, and try a tool call if calls can be parsed."""
        await super().warm_up()
        if self.chats.calls_tools:
            await check_calls(self)


async def served_model(
    engine: LanguageEngine,
    front: Any,
    arguments: Namespace,
    settings: Settings,
    texts: VllmTexts,
    sandbox: GrammarSandbox,
    admission: AdmissionController,
    observer: StreamObserver,
) -> VllmModel:
    """The model on an engine that runs; `front` has vLLM's configuration and renderer.

    Raises ConfigurationError for a configured tool parser that does not fit the tokenizer.
    """
    admission.capacity = settings.admission.max_in_flight or engine.model.max_num_seqs
    configured = "tool_call_parser" in by_vllms_names(settings.engine)
    check_parser(arguments, front.renderer.get_tokenizer(), configured=configured)
    preparation = Preparation(admission, settings.preparation)
    chats = VllmChats(front, arguments, preparation)
    await chats.begin()
    structures = VllmStructures(sandbox, strict=settings.limits.structures.unenforced == "refuse")
    return VllmModel(engine, texts, chats, structures, admission, observer, preparation)
