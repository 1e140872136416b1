"""The choice between vLLM's public client and the fast way, which stands on vLLM's insides.

The fast way needs fields and signatures that vLLM does not promise. Those of the versions that it
was tested with are recorded in tested_versions.json (`python -m tools.vllm_versions`), and compared
with the installed ones before it is taken.
"""

import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from service.errors import ConfigurationError

_log = logging.getLogger(__name__)

Standing = Mapping[str, list[str] | None]
"""Fields or parameters by the name of a class or function of vLLM; None where it is missing."""

RECORDED = Path(__file__).with_name("tested_versions.json")
_SHOWN = 8

FIELDS = (
    "vllm.v1.engine:EngineCoreOutput",
    "vllm.v1.engine:EngineCoreOutputs",
    "vllm.v1.engine:EngineCoreRequest",
    "vllm.sampling_params:SamplingParams",
    "vllm.outputs:CompletionOutput",
    "vllm.v1.metrics.stats:IterationStats",
    "vllm.v1.metrics.stats:PromptTokenStats",
    "vllm.v1.metrics.stats:RequestStateStats",
    "vllm.v1.metrics.stats:SchedulerStats",
    "vllm.v1.outputs:LogprobsLists",
)
"""Classes whose fields the fast way reads or writes."""
_SET_AT_START = ("vllm.v1.metrics.stats:IterationStats",)

SIGNATURES = (
    "vllm.outputs:RequestOutput.__init__",
    "vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "vllm.v1.engine.output_processor:OutputProcessor.propagate_error",
    "vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_output",
    "vllm.v1.engine.output_processor:OutputProcessor._update_stats_from_finished",
    "vllm.v1.engine.output_processor:OutputProcessor.do_tracing",
    "vllm.v1.engine.output_processor:RequestState.make_request_output",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.from_new_request",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.update",
    "vllm.v1.engine.detokenizer:IncrementalDetokenizer.get_next_output_text",
    "vllm.v1.engine.input_processor:InputProcessor.process_inputs",
    "vllm.v1.engine.input_processor:InputProcessor._validate_model_inputs",
    "vllm.v1.engine.core_client:AsyncMPClient.add_request_async",
    "vllm.v1.engine.core_client:AsyncMPClient.abort_requests_async",
    "vllm.v1.engine.core_client:AsyncMPClient._send_input_message",
    "vllm.v1.engine.core_client:_process_utility_output",
    "vllm.v1.engine.async_llm:AsyncLLM.add_request",
    "vllm.v1.engine.async_llm:AsyncLLM.abort",
    "vllm.v1.metrics.loggers:PrometheusStatLogger.record",
)
"""Functions that the fast way calls, or stands in for."""


class Choice(NamedTuple):
    """The client of the engine, and what speaks against the fast one."""

    kind: Literal["fast", "stock"]
    differences: tuple[str, ...] = ()


def choose(asked: object) -> Choice:
    """The client for `engine.client`, which is logged, with a warning where `auto` is not fast.

    Raises ConfigurationError for an unknown value, and for `fast` where it would not be right.
    """
    if asked not in ("auto", "stock", "fast"):
        raise ConfigurationError(
            f"engine.client: must be auto, stock or fast, got {asked!r:.80}; `stock` uses vLLM's "
            "public client alone, `fast` its insides, and `auto` is fast on tested versions"
        )
    found = [] if asked == "stock" else differences()
    if not found:
        chosen = Choice("stock" if asked == "stock" else "fast")
        _log.info("vLLM %s, reached by its %s client", installed_version(), chosen.kind)
        return chosen
    shown = "; ".join(found[:_SHOWN])
    if asked == "fast":
        raise ConfigurationError(
            f"engine.client: fast stands on parts of vLLM that differ here: {shown}; set auto"
        )
    _log.warning(
        "engine.client: vLLM's public client is used, which costs more: the fast one stands on "
        "parts of vLLM that differ here: %s",
        shown,
    )
    return Choice("stock", tuple(found))


def differences() -> list[str]:
    """What the installed vLLM has otherwise than the tested version, empty for a tested one."""
    installed = installed_version()
    recorded = tested_versions()
    if installed not in recorded:
        return [f"version {installed} was not tested, only {', '.join(recorded)}"]
    here = standing()
    return [
        _difference(name, here.get(name), told)
        for name, told in recorded[installed]["standing"].items()
        if here.get(name) != told
    ]


def tested_versions() -> dict[str, Any]:
    """The record: for each tested version what the fast way stands on, and its arguments."""
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())
    return recorded


def tried_arguments() -> frozenset[str]:
    """The arguments of the engines of all tested versions."""
    return frozenset().union(*(each["arguments"] for each in tested_versions().values()))


def described() -> dict[str, Any]:
    """What the record says of a version, of the installed one."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return {"standing": standing(), "arguments": [each.name for each in fields(AsyncEngineArgs)]}


def _difference(name: str, here: list[str] | None, told: list[str] | None) -> str:
    if here is None:
        return f"{name} is missing"
    gone, new = set(told or ()) - set(here), set(here) - set(told or ())
    changed = [f"without {each}" for each in sorted(gone)] + [f"new {each}" for each in sorted(new)]
    return f"{name}: {', '.join(changed) or 'another order'}"


def installed_version() -> str:
    """The release of the installed vLLM, without the name of its build."""
    from vllm.version import __version__

    return str(__version__).partition("+")[0]


def standing() -> Standing:
    """What the fast way stands on, as it is in the installed vLLM."""
    return {name: _described(name) for name in (*FIELDS, *SIGNATURES)}


@cache
def _described(name: str) -> list[str] | None:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for step in path.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError):
        return None
    if not inspect.isclass(found):
        return [
            str(each).partition(":")[0] for each in inspect.signature(found).parameters.values()
        ]
    if hasattr(found, "__struct_fields__"):
        return list(found.__struct_fields__)
    if name in _SET_AT_START:
        return list(vars(found()))
    if is_dataclass(found):
        return [field.name for field in fields(found)]
    return list(getattr(found, "_fields", ())) or list(inspect.signature(found).parameters)
