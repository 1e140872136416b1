"""The estimate of the engine's memory, and its table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.plugins.planning.machine import GIB, Machine


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes needed on one GPU of the fullest pipeline stage, or in host memory on CPUs.

    `sequence` is the KV cache of one sequence of `length` tokens. `longest` maps the size of a KV
    cache in bytes to the longest sequence that fits. `products` is the size of oneDNN's full cache
    of compiled matrix products on CPUs. `workspace` is a rough estimate; the others are exact. With
    `auto_length` the engine chooses the length by the memory that is left.
    """

    weights: int
    adapters: int
    workspace: int
    sequence: int
    length: int
    longest: Callable[[int], int]
    auto_length: bool = False
    products: int = 0

    @property
    def held(self) -> int:
        """Bytes that the engine holds, without the KV cache and the workspace."""
        return self.weights + self.adapters + self.products

    @property
    def certain(self) -> int:
        """Bytes without which the engine cannot run."""
        return self.held + (0 if self.auto_length else self.sequence)


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings that the figures depend on, as the engine reads them."""

    dtype: str
    parameters: int
    tensor_parallel: int
    pipeline_parallel: int
    local_devices: int
    utilization: float
    kv_bytes: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    adapter_slots: int
    adapter_rank: int
    graphs: bool
    compiled_products: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The needs compared with the machine; `refusals` says what cannot fit."""

    plan: Plan
    needs: Needs
    machine: Machine

    @property
    def total(self) -> int | None:
        """Memory of the smallest GPU that is used, or of the host; None where no GPU was found."""
        if self.machine.on_cpu:
            return self.machine.host_total
        used = self.machine.devices[: self.plan.local_devices]
        return min((device.total for device in used), default=None)

    @property
    def budget(self) -> int | None:
        """Bytes that the engine may take: a share of the GPU, or what the host has free."""
        if self.machine.on_cpu:
            return self.machine.host_free
        return None if self.total is None else int(self.total * self.plan.utilization)

    @property
    def kv(self) -> int | None:
        """Bytes for the KV cache: as configured, else what the budget leaves; may be negative."""
        if self.plan.kv_bytes is not None or self.budget is None:
            return self.plan.kv_bytes
        return self.budget - self.needs.held - self.needs.workspace

    @property
    def sequences(self) -> float | None:
        """Sequences of the full length that the KV cache holds at once."""
        return None if self.kv is None else max(0.0, self.kv / max(1, self.needs.sequence))

    def refusals(self) -> list[str]:
        """Sentences about what cannot fit, each with the setting to change; empty if all fits."""
        found = [self._too_few_devices(), self._not_free(), self._too_large(), self._short_cache()]
        return [sentence for sentence in found if sentence is not None]

    def warnings(self) -> list[str]:
        """Sentences about what may not fit."""
        taken = self._taken + self.needs.workspace
        if self.budget is None or self.refusals() or taken <= self.budget:
            return []
        on_cpu = ": lower cpu.kv_cache_gib or cpu.compiled_products"
        return [
            f"tight: with the workspace, a rough estimate, {_gib(taken)} of {_gib(self.budget)} "
            f"are needed{on_cpu if self.machine.on_cpu else ''}"
        ]

    @property
    def _taken(self) -> int:
        """Least bytes that are used of the budget, with the KV cache if its size is configured."""
        if self.plan.kv_bytes is None:
            return self.needs.certain
        return self.needs.held + self.plan.kv_bytes

    def _too_few_devices(self) -> str | None:
        there, wanted = len(self.machine.devices), self.plan.local_devices
        if self.machine.on_cpu or not there or wanted <= there:
            return None
        return (
            f"engine.tensor_parallel_size {self.plan.tensor_parallel} x "
            f"engine.pipeline_parallel_size {self.plan.pipeline_parallel} needs {wanted} GPUs on "
            f"this machine, which has {there}"
        )

    def _not_free(self) -> str | None:
        if self.machine.on_cpu or self.budget is None or self.plan.kv_bytes is not None:
            return None
        for number, device in enumerate(self.machine.devices[: self.plan.local_devices]):
            wanted = int(device.total * self.plan.utilization)
            if device.free < wanted:
                fits = int(device.free / device.total * 100) / 100
                return (
                    f"GPU {number} has {_gib(device.free)} of {_gib(device.total)} free, and "
                    f"engine.gpu_memory_utilization {self.plan.utilization:g} takes "
                    f"{_gib(wanted)}: end the programs that use the GPU, or set at most {fits:.2f}"
                )
        return None

    def _too_large(self) -> str | None:
        if self.budget is None or self._taken <= self.budget:
            return None
        needs, limit = self.needs, self.budget
        if self.machine.on_cpu:
            return (
                f"weights, adapters, KV cache and compiled products take {_gib(self._taken)} of "
                f"this machine's memory, of which {_gib(limit)} are free: lower cpu.kv_cache_gib, "
                "cpu.compiled_products or engine.max_loras, or serve a smaller or quantised model"
            )
        if needs.weights > limit:
            return (
                f"the weights take {_gib(needs.weights)} of the {_gib(limit)} that the engine may "
                f"use of a GPU: {self._more_devices()}"
            )
        if needs.weights + needs.adapters > limit:
            return (
                f"weights and {self.plan.adapter_slots} places for adapters of rank "
                f"{self.plan.adapter_rank} take {_gib(needs.weights + needs.adapters)} of "
                f"{_gib(limit)}: lower engine.max_loras or engine.max_lora_rank, or name the "
                "adapters' modules in engine.lora_target_modules"
            )
        left = limit - needs.weights - needs.adapters
        if self.plan.kv_bytes is not None:
            return (
                f"engine.kv_cache_memory_bytes {self.plan.kv_bytes} is more than the "
                f"{_gib(left)} that weights and adapters leave: lower it or leave it out"
            )
        return self._shorter("weights and adapters leave", left)

    def _short_cache(self) -> str | None:
        set_bytes = self.plan.kv_bytes
        if set_bytes is None or self.needs.auto_length or self.needs.sequence <= set_bytes:
            return None
        if self.machine.on_cpu:
            wanted = -(-self.needs.sequence // GIB)
            return self._shorter(f"cpu.kv_cache_gib, at least {wanted} for it, holds", set_bytes)
        return self._shorter("engine.kv_cache_memory_bytes holds", set_bytes)

    def _shorter(self, holder: str, left: int) -> str:
        longest = self.needs.longest(left)
        advice = f"at most {longest}" if longest else f"less, or {self._more_devices()}"
        return (
            f"one sequence of engine.max_model_len {self.needs.length} takes "
            f"{_gib(self.needs.sequence)} of KV cache, and {holder} {_gib(left)}: set {advice}"
        )

    def _more_devices(self) -> str:
        """Advice: the number of GPUs over which the certain needs, evenly divided, fit."""
        assert self.budget is not None
        times = 2
        while self.needs.certain / times > self.budget and times < 64:
            times *= 2
        wanted = self.plan.tensor_parallel * times
        return (
            f"set engine.tensor_parallel_size to {wanted} on {wanted} such GPUs, or serve a "
            "quantised checkpoint (AWQ, GPTQ, FP8)"
        )


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


Row = tuple[str, str, str, str]


def table(estimate: Estimate) -> str:
    """The lines of the table: part, formula, GiB, and the settings that change it."""
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
        _table_gib(needs.weights),
        "model.path, engine.tensor_parallel_size",
    )
    if plan.adapter_slots:
        how = f"{plan.adapter_slots} places of rank {plan.adapter_rank}"
        settings = "engine.max_loras, max_lora_rank, lora_target_modules"
        yield "adapters", how, _table_gib(needs.adapters), settings
    if plan.compiled_products:
        how = f"at most {plan.compiled_products:,}"
        yield "compiled products", how, _table_gib(needs.products), "cpu.compiled_products"
    how = f"steps of {plan.max_num_batched_tokens:,} tokens{', graphs' if plan.graphs else ''}"
    settings = "engine.max_num_batched_tokens, max_num_seqs"
    yield "workspace (rough)", how, _table_gib(needs.workspace), settings
    yield from _cache(estimate)


def _there(estimate: Estimate) -> Row:
    if estimate.total is None or estimate.budget is None:
        return "there is", "no GPU was found: nothing is compared", "?", ""
    if estimate.machine.on_cpu:
        how = f"free of {_table_gib(estimate.total)} GiB"
        return "there is", how, _table_gib(estimate.budget), "the machine, or the container's limit"
    name = estimate.machine.devices[0].name
    how = f"{name}, {estimate.plan.utilization:g} of {_table_gib(estimate.total)} GiB"
    return "there is", how, _table_gib(estimate.budget), "engine.gpu_memory_utilization"


def _cache(estimate: Estimate) -> Iterator[Row]:
    needs, plan = estimate.needs, estimate.plan
    setting = "engine.kv_cache_memory_bytes"
    if estimate.machine.on_cpu:
        setting = "cpu.kv_cache_gib"
    if estimate.kv is not None:
        how = "what is left" if plan.kv_bytes is None else "as set"
        yield "KV cache", how, _table_gib(max(0, estimate.kv)), setting
    one = f"one sequence of {needs.length:,} tokens"
    yield "", one, _table_gib(needs.sequence), "engine.max_model_len, kv_cache_dtype"
    if estimate.sequences is not None and needs.sequence:
        tokens = int(estimate.sequences * needs.length)
        how = f"holds {tokens:,} tokens, {estimate.sequences:.1f} such sequences"
        yield "", how, "", f"of engine.max_num_seqs {plan.max_num_seqs}"


def _count(parameters: int) -> str:
    billions = parameters / 1e9
    return f"{billions:.1f} billion numbers" if billions >= 1 else f"{parameters / 1e6:.0f} million"


def _table_gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size < GIB else f"{size / GIB:.1f}"
