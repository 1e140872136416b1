"""The estimate as a table of text, for a terminal and for a log."""

from collections.abc import Iterator

from service.plugins.planning.estimate import Estimate
from service.plugins.planning.machine import GIB

Row = tuple[str, str, str, str]


def table(estimate: Estimate) -> str:
    """Lines with the part, how it was computed, its GiB and the settings that change it."""
    rows: list[Row] = [("memory", "how", "GiB", "set by"), *_rows(estimate)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{part:<{widths[0]}}  {how:<{widths[1]}}  {size:>{widths[2]}}  {setting}".rstrip()
        for part, how, size, setting in rows
    )


def _rows(estimate: Estimate) -> Iterator[Row]:
    plan, needs = estimate.plan, estimate.needs
    yield _there(estimate)
    parallel = plan.tensor_parallel * plan.pipeline_parallel
    split = f", 1 of {parallel} GPUs" if parallel > 1 else ""
    yield (
        "weights",
        f"{_count(plan.parameters)}, {plan.dtype}{split}",
        _gib(needs.weights),
        "model.path, engine.tensor_parallel_size",
    )
    if plan.adapter_slots:
        how = f"{plan.adapter_slots} places of rank {plan.adapter_rank}"
        settings = "engine.max_loras, max_lora_rank, lora_target_modules"
        yield "adapters", how, _gib(needs.adapters), settings
    if plan.compiled_products:
        how = f"at most {plan.compiled_products:,}"
        yield "compiled products", how, _gib(needs.products), "cpu.compiled_products"
    how = f"steps of {plan.max_num_batched_tokens:,} tokens{', graphs' if plan.graphs else ''}"
    settings = "engine.max_num_batched_tokens, max_num_seqs"
    yield "workspace (rough)", how, _gib(needs.workspace), settings
    yield from _cache(estimate)


def _there(estimate: Estimate) -> Row:
    if estimate.total is None or estimate.budget is None:
        return "there is", "no GPU was found: nothing is compared", "?", ""
    if estimate.machine.on_cpu:
        how = f"free of {_gib(estimate.total)} GiB"
        return "there is", how, _gib(estimate.budget), "the machine, or the container's limit"
    name = estimate.machine.devices[0].name
    how = f"{name}, {estimate.plan.utilization:g} of {_gib(estimate.total)} GiB"
    return "there is", how, _gib(estimate.budget), "engine.gpu_memory_utilization"


def _cache(estimate: Estimate) -> Iterator[Row]:
    needs, plan = estimate.needs, estimate.plan
    setting = "engine.kv_cache_memory_bytes"
    if estimate.machine.on_cpu:
        setting = "cpu.kv_cache_gib"
    if estimate.kv is not None:
        how = "what is left" if plan.kv_bytes is None else "as set"
        yield "KV cache", how, _gib(max(0, estimate.kv)), setting
    one = f"one sequence of {needs.length:,} tokens"
    yield "", one, _gib(needs.sequence), "engine.max_model_len, kv_cache_dtype"
    if estimate.sequences is not None and needs.sequence:
        tokens = int(estimate.sequences * needs.length)
        how = f"holds {tokens:,} tokens, {estimate.sequences:.1f} such sequences"
        yield "", how, "", f"of engine.max_num_seqs {plan.max_num_seqs}"


def _count(parameters: int) -> str:
    billions = parameters / 1e9
    return f"{billions:.1f} billion numbers" if billions >= 1 else f"{parameters / 1e6:.0f} million"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size < GIB else f"{size / GIB:.1f}"
