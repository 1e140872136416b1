"""Checks of a configuration without starting the engine: its memory, and the client of vLLM."""

from service.runtime.parts import engine_reports
from service.settings.tree import Settings
from service.vllm.argument_checks import stock_only
from service.vllm.arguments import engine_config, parse_engine_arguments, without_gpu
from service.vllm.versions import chosen, installed_version


def check_engine(settings: Settings) -> str:
    """The reports of both checks; raises as they do."""
    return "\n".join(filter(None, (check_client(settings), check_memory(settings))))


def check_memory(settings: Settings) -> str:
    """The estimate as a table, or a sentence on why there is none here.

    A model or a GPU that is not on this machine is no error, so that a configuration for another
    machine can be checked. Raises ConfigurationError if the engine cannot fit, or refuses its
    arguments.
    """
    if settings.model is None:
        return "memory: not estimated: there are encoders only"
    if without_gpu():
        return "memory: not estimated: this machine has no GPU, which this build of vLLM needs"
    arguments = parse_engine_arguments(settings)
    folder = settings.model.path
    if not folder.is_dir():
        return f"memory: not estimated: {folder} is not on this machine"
    config = engine_config(arguments)
    return "\n".join(engine_reports(config, settings))


def check_client(settings: Settings) -> str:
    """Which client would reach vLLM, and what of its installed version was not tested.

    Raises ConfigurationError if `engine.client` is `fast` and the fast client cannot be used.
    """
    engine = settings.engine if settings.model else settings.encoders[0].engine
    kind, notes = chosen(engine.get("client", "auto"), stock_only(engine))
    return "; ".join([f"engine: vLLM {installed_version()}, reached by its {kind} client", *notes])
