"""The machine's memory, as vLLM's platform and the driver report it."""

import ast
import logging
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import torch
from vllm.model_executor.models.registry import ModelRegistry
from vllm.platforms import current_platform
from vllm.utils.cpu_resource_utils import get_memory_node_info, get_visible_memory_node

from service.errors import ConfigurationError
from service.models.base_model import read_modules
from service.models.tensors import read_tensors
from service.plugins.planning.estimate import Estimate, Needs, Plan, table
from service.plugins.planning.machine import (
    CacheLayer,
    CacheShape,
    Device,
    Machine,
    Products,
    Step,
    workspace_bytes,
)
from service.plugins.planning.weights import (
    Slots,
    Split,
    parameters,
    slot_bytes,
    stages_of,
    weight_bytes,
)
from service.settings import section as platform
from service.settings.tree import Settings
from service.vllm.environment import compiled_products

USES = (
    "reads vllm.config.model:ModelConfig.get_total_num_hidden_layers, original_max_model_len",
    "reads vllm.model_executor.models.registry:_LazyRegisteredModel",
    "reads vllm.platforms.interface:Platform.visible_device_id_to_physical_device_id",
    "reads vllm.utils.cpu_resource_utils:get_memory_node_info, get_visible_memory_node",
)


def find_machine() -> Machine:
    """The GPUs that this process may use, without creating a CUDA context, and host memory."""
    # The engine's process is bound to one node of memory, by default the first that it may use.
    host = get_memory_node_info(next(iter(get_visible_memory_node()), 0))
    on_cpu = platform.installed() is platform.CPU
    devices = () if on_cpu else _devices()
    return Machine(devices, host.total_memory, host.available_memory, on_cpu)


def _devices() -> tuple[Device, ...]:
    if not current_platform.is_cuda():
        return ()
    from vllm.third_party import pynvml

    pynvml.nvmlInit()
    try:
        return tuple(_device(pynvml, number) for number in range(current_platform.device_count()))
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, number: int) -> Device:
    physical = current_platform.visible_device_id_to_physical_device_id(number)
    handle = nvml.nvmlDeviceGetHandleByIndex(physical)
    # The second version leaves out what the driver reserves, which torch does not count either.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    name = str(nvml.nvmlDeviceGetName(handle))
    return Device(name, memory.total - memory.reserved, memory.free, (major, minor))


_log = logging.getLogger(__name__)
_CACHE_BYTES = {"bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
"""Bytes of a number of the KV cache, by its setting."""
_ONLINE_BITS = {"fp8": 8, "bitsandbytes": 4}
"""Bits of a linear layer's weight for methods by which vLLM quantises an unquantised checkpoint."""


def refuse_unfit(config: Any, settings: Settings) -> Estimate | None:
    """The estimate; ConfigurationError with a table of the figures if the engine cannot fit.

    None, with a line in the log, for models that cannot be estimated.
    """
    try:
        estimate = estimate_memory(config, settings, find_machine())
        refusals = estimate.refusals()
    except ConfigurationError:
        raise
    except Exception as error:  # a failed estimate must not keep an unusual model from starting
        _log.warning("memory: not estimated: %s: %s", type(error).__name__, error)
        return None
    if refusals:
        told = "\n  ".join(["memory: this configuration cannot fit:", *refusals])
        raise ConfigurationError(f"{told}\n\n{table(estimate)}")
    for warning in estimate.warnings():
        _log.warning("memory: %s", warning)
    return estimate


def estimate_memory(config: Any, settings: Settings, machine: Machine) -> Estimate:
    """The estimate for this configuration on this machine; loads no weights.

    Raises ConfigurationError for a model's folder that is malformed, NotImplementedError for a
    model of whose cache nothing is known.
    """
    tensors = read_tensors(settings.base.path)
    split = _split(config)
    model = config.model_config
    tied = bool(getattr(model.hf_text_config, "tie_word_embeddings", False))
    size = model.dtype.itemsize
    weights = weight_bytes(
        tensors, split, dtype_bytes=size, tied=tied, online_bits=_online_bits(config)
    )
    slots = _slots(config, settings, machine)
    modules = read_modules(settings.base.path, tensors) if slots.count else {}
    adapters = slot_bytes(modules, slots, split, tied=tied)
    shapes = [_cache_shape(config, stage) for stage in split.stages]
    sequences = [shape.sequence_bytes() for shape in shapes]
    # On GPUs the fullest stage decides; on CPUs the host holds every part.
    full = max(range(len(weights)), key=lambda n: weights[n] + adapters[n] + sequences[n])
    ranks = config.parallel_config.data_parallel_size_local
    times = split.devices * ranks if machine.on_cpu else 1
    graphs = not model.enforce_eager and not machine.on_cpu
    workspace = workspace_bytes(
        _step(config), parallel=split.tensor_parallel, graphs=graphs, on_cpu=machine.on_cpu
    )
    kept = compiled_products(settings.cpu) if machine.on_cpu else 0
    # In float32 torch multiplies by MKL, which keeps no products.
    by_torch = slots.count > 0 and size < torch.float32.itemsize
    products = Products(own=kept, of_adapters=kept if by_torch else 0)
    needs = Needs(
        weights=weights[full] * times,
        adapters=adapters[full] * times,
        workspace=workspace,
        sequence=sequences[full],
        length=model.max_model_len,
        longest=shapes[full].longest,
        auto_length=model.original_max_model_len == -1,
        products=products.size * times,
    )
    plan = _plan(config, slots, parameters(tensors), graphs, products.count)
    return Estimate(plan, needs, machine)


def _step(config: Any) -> Step:
    model, scheduler = config.model_config, config.scheduler_config
    hidden = model.get_hidden_size()
    return Step(
        tokens=scheduler.max_num_batched_tokens,
        sequences=scheduler.max_num_seqs,
        hidden=hidden,
        inner=getattr(model.hf_text_config, "intermediate_size", None) or 4 * hidden,
        vocabulary=model.get_vocab_size(),
        dtype_bytes=model.dtype.itemsize,
    )


def _split(config: Any) -> Split:
    parallel = config.parallel_config
    layers = config.model_config.get_total_num_hidden_layers()
    count = parallel.pipeline_parallel_size
    stages = stages_of(layers, count)
    heads = config.model_config.get_total_num_kv_heads()
    return Split(parallel.tensor_parallel_size, stages, max(1, heads))


def _cache_shape(config: Any, stage: range) -> CacheShape:
    """The cache of these layers.

    Raises NotImplementedError for models whose layers keep states of other kinds.
    """
    model = config.model_config
    if model.is_hybrid or model.is_attention_free or model.is_encoder_decoder:
        raise NotImplementedError(f"{model.architecture} keeps more than keys and values")
    scheduler = config.scheduler_config
    return CacheShape(
        [_cache_layer(config, layer) for layer in stage],
        block=config.cache_config.block_size,
        step=getattr(config, "max_in_flight_tokens", 2 * scheduler.max_num_batched_tokens),
        length=model.max_model_len,
    )


def _cache_layer(config: Any, layer: int) -> CacheLayer:
    model, kind = config.model_config, config.cache_config.cache_dtype
    if kind == "auto":
        size = model.dtype.itemsize
    elif kind in _CACHE_BYTES:
        size = _CACHE_BYTES[kind]
    else:
        raise NotImplementedError(f"a cache of {kind} holds more than its numbers")
    arch = model.model_arch_config[layer]
    heads = model.get_num_kv_heads(config.parallel_config, arch)
    vectors = 1 if model.use_mla else 2
    return CacheLayer(vectors * heads * arch.head_size * size, _window(config, layer))


def _window(config: Any, layer: int) -> int | None:
    """Tokens that a layer attends to, None for all; read as the models' own code reads them."""
    text = config.model_config.hf_text_config
    if getattr(config.scheduler_config, "disable_hybrid_kv_cache_manager", False):
        return None
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        window: int | None = config.cache_config.sliding_window
        return window
    sliding = kinds[layer] == "sliding_attention" and not config.model_config.disable_sliding_window
    return getattr(text, "sliding_window", None) if sliding else None


def _online_bits(config: Any) -> int | None:
    model = config.model_config
    if getattr(model.hf_config, "quantization_config", None) or model.quantization is None:
        return None
    return _ONLINE_BITS.get(model.quantization)


def _slots(config: Any, settings: Settings, machine: Machine) -> Slots:
    lora = config.lora_config
    if lora is None:
        return Slots(0, 0, 0)
    return Slots(
        count=lora.max_loras,
        rank=lora.max_lora_rank,
        dtype_bytes=lora.lora_dtype.itemsize,
        targets=lora.target_modules,
        embeddings=adapts_embeddings(config.model_config.architecture),
        sharded=lora.fully_sharded_loras,
        diagonal=machine.on_cpu and settings.cpu.grouped_adapters,
    )


def _plan(config: Any, slots: Slots, numbers: int, graphs: bool, products: int) -> Plan:
    parallel: Any = config.parallel_config
    return Plan(
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        parameters=numbers,
        tensor_parallel=parallel.tensor_parallel_size,
        pipeline_parallel=parallel.pipeline_parallel_size,
        local_devices=parallel.world_size // parallel.nnodes,
        utilization=config.cache_config.gpu_memory_utilization,
        kv_bytes=config.cache_config.kv_cache_memory_bytes,
        max_num_seqs=config.scheduler_config.max_num_seqs,
        max_num_batched_tokens=config.scheduler_config.max_num_batched_tokens,
        adapter_slots=slots.count,
        adapter_rank=slots.rank,
        graphs=graphs,
        compiled_products=products,
    )


def adapts_embeddings(architecture: str) -> bool:
    """True if adapters can change the embeddings of this architecture too.

    That is so if the class, or a base class, defines `embedding_modules`; also assumed for classes
    that are not vLLM's.
    """
    found = ModelRegistry.models.get(architecture)
    module, name = getattr(found, "module_name", None), getattr(found, "class_name", None)
    return module is None or name is None or _names_any(module, name, "embedding_modules")


@cache
def _names_any(module: str, class_name: str, attribute: str) -> bool:
    """True if a class assigns the attribute a mapping that is not empty, or inherits one."""
    spec = find_spec(module) if module.startswith("vllm.") else None
    if spec is None or spec.origin is None:
        return False
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if class_name not in classes:
        origin = _imported(tree, module).get(class_name)
        return origin is not None and _names_any(origin, class_name, attribute)
    body = classes[class_name]
    for node in body.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            value = getattr(node, "value", None)
            return not isinstance(value, ast.Dict) or bool(value.keys)
    bases = [base.id for base in body.bases if isinstance(base, ast.Name)]
    return any(_names_any(module, base, attribute) for base in bases)


def _imported(tree: ast.Module, module: str) -> dict[str, str]:
    """Modules of names that `from ... import` brings, by name."""
    package = module.rpartition(".")[0]
    return {
        alias.name: resolve_name("." * node.level + (node.module or ""), package)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
