"""Starting vLLM behind the gate."""

import logging

from service.engine.protocol import ModelInfo
from service.gate.gate import Gate
from service.gate.meter import StreamObserver
from service.model.pin import checked_digest
from service.settings.tree import Settings
from service.vllm.arguments import engine_config, parse_engine_arguments, with_budget
from service.vllm.clients import client_for
from service.vllm.cpu.forkserver import begin_seed
from service.vllm.engine import VllmEngine
from service.vllm.gc_tuning import settle_heap
from service.vllm.grammar_sandbox import GrammarSandbox
from service.vllm.interruptible import interruptible
from service.vllm.memory import refuse_unfit
from service.vllm.openai import OpenAISurface
from service.vllm.opened import stock_only
from service.vllm.process import new_children, of_all_workers, workers_here
from service.vllm.ranks import on_each_rank
from service.vllm.speculation import reads_labels
from service.vllm.stat_loggers import StepClock
from service.vllm.structured_outputs import open_sandbox
from service.vllm.tool_parsers import check_parser
from service.vllm.versions import installed_version

_log = logging.getLogger(__name__)


def for_one_adapter(settings: Settings) -> Settings:
    """The settings with room for one adapter at a time, and none that is served.

    A slot for each configured adapter would waste memory.
    """
    engine = {"max_loras": 1, **settings.engine, "enable_lora": True}
    return settings.model_copy(update={"engine": engine, "adapters": ()})


async def start_vllm(settings: Settings, gate: Gate, observer: StreamObserver) -> VllmEngine:
    """Start the engine and its OpenAI handlers; ConfigurationError if it cannot start."""
    begin_seed(settings)
    arguments = parse_engine_arguments(settings)
    client = client_for(settings.engine.get("client", "auto"), stock_only(settings.engine))
    with interruptible():
        digest = checked_digest(settings.base.path, settings.base.digest)
    steps = StepClock()
    sandbox = GrammarSandbox(gate, settings.preparation)
    sandbox.begin()
    try:
        with interruptible():
            config = with_budget(engine_config(arguments))
            refuse_unfit(config, settings)
            with new_children() as pids:
                llm = client.start(config, steps, client.stats)
        await open_sandbox(sandbox, llm)
    except BaseException:
        sandbox.stop()
        raise
    max_num_seqs = llm.vllm_config.scheduler_config.max_num_seqs * len(on_each_rank(llm))
    pids += await workers_here(llm)
    await llm.collective_rpc("keep_rows_apart")
    lora = llm.vllm_config.lora_config
    if lora:
        await llm.collective_rpc("count_adapter_reads")
        if not all(await of_all_workers(llm, "reads_prompts")):
            settings = _without_echoes(settings)
    model = ModelInfo(
        settings.base.name,
        digest,
        llm.model_config.max_model_len,
        max_num_seqs,
        max_lora_rank=lora.max_lora_rank if lora else 0,
        max_token_chars=llm.renderer.get_tokenizer().max_chars_per_token,
        client=client.kind,
        vllm=installed_version(),
        client_notes=client.notes,
    )
    gate.capacity = settings.gate.max_in_flight or max_num_seqs
    core = client.engine(llm, pids, gate)
    engine = VllmEngine(llm, steps, model, gate, observer, settings, sandbox, core)
    engine.reads_labels = await reads_labels(llm)
    configured = {"tool_call_parser", "tool-call-parser"} & settings.engine.keys()
    check_parser(arguments, llm.renderer.get_tokenizer(), configured=bool(configured))
    engine.openai = await OpenAISurface.create(engine.client, arguments)
    await client.shorten(engine.openai)
    settle_heap()
    return engine


def _without_echoes(settings: Settings) -> Settings:
    """The settings without log-probabilities of prompts, which this engine computes wrongly."""
    _log.warning(
        "limits.echo_logprobs: 0 on this engine; beside adapters vLLM cannot compute the prompts'"
        " log-probabilities of a model with an output layer of its own"
    )
    limits = settings.limits.model_copy(update={"echo_logprobs": 0})
    return settings.model_copy(update={"limits": limits})
