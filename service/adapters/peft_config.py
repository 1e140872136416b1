"""adapter_config.json as PEFT writes it, reduced to the features that vLLM 0.32 serves.

Fails closed: a feature vLLM does not serve is refused by name, and so is a key this module does
not know, unless it is empty. Served features follow `vllm.lora.peft_helper.PEFTHelper`; which
modules a configuration targets follows `peft.tuners.tuners_utils.check_target_module_exists`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.adapters.formats import AdapterRefused, Matcher, PatternRefused
from service.adapters.manifest import CONFIG_FILE
from service.models.base_model import EMBEDDING

MAX_CONFIG_BYTES = 1 << 20
MAX_ALPHA = 1 << 14
"""Above any scale used in training; weights of up to 4 times this are finite in float16."""
_MAX_PATTERNS = 64
_MATCH_SECONDS = 5.0
"""Time for every pattern on every module together; 100 modules take some thousandths of it."""

# Keys that are read below.
_READ = frozenset(
    {"peft_type", "r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern",
     "alpha_pattern", "use_rslora", "layers_to_transform", "layers_pattern", "bias",
     "init_lora_weights"}
)  # fmt: skip
# Without effect on a trained adapter: names, or options for training only.
_WITHOUT_EFFECT = frozenset(
    {"auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying",
     "eva_config", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config",
     "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config",
     "task_type", "velora_config"}
)  # fmt: skip
# Known, and not served when set. vLLM refuses some of them and silently ignores the others.
_NOT_SERVED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "modules_to_save": "fully trained modules",
    "lora_bias": "a bias of the LoRA layers",
    "fan_in_fan_out": "weights stored as (in, out)",
    "trainable_token_indices": "trained token embeddings",
    "target_parameters": "LoRA on bare parameters",
    "layer_replication": "layer replication",
    "alora_invocation_tokens": "Activated LoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "Monte Carlo LoRA",
    "megatron_config": "Megatron layers",
}
# These do not change the base's weights; the others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) do, so
# the trained adapter fits another base than the served one.
_SERVED_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The part of a LoRA's configuration that decides which tensors it has, and their ranks.

    Patterns are regular expressions over a module's name, matched at its end from a dot on; the
    first that matches wins.
    """

    rank: int
    rank_pattern: Mapping[str, int]
    target_modules: tuple[str, ...] | str
    exclude_modules: tuple[str, ...] | str
    layers: tuple[int, ...]
    layers_pattern: tuple[str, ...]
    matcher: Matcher = field(compare=False, repr=False)

    def rank_of(self, module: str) -> int:
        """Return the rank of one module; raises PatternRefused."""
        for pattern, rank in self.rank_pattern.items():
            if self.matcher.full_match(rf"(.*\.)?({pattern})", module):
                return rank
        return self.rank

    def targets(self, module: str) -> bool:
        """True if PEFT puts a LoRA on this module; raises PatternRefused."""
        if self._names(self.exclude_modules, module) or not self._is_targeted(module):
            return False
        if not self.layers or isinstance(self.target_modules, str) or module in self.target_modules:
            return True
        prefixes = [rf"(?:^|.*?\.){pattern}" for pattern in self.layers_pattern]
        for prefix in prefixes or [r".*?\.[^.]*"]:
            found = self.matcher.first_match(rf"{prefix}\.(?P<index>\d+)\.", module)
            if found is not None:
                index = found["index"]
                if index is None or not index.isdecimal():
                    raise PatternRefused(f"layers_pattern {prefix!r} leaves no layer's number")
                return int(index) in self.layers
        return False

    def _is_targeted(self, module: str) -> bool:
        if self.target_modules == "all-linear":
            return module.rpartition(".")[2] not in (EMBEDDING, "lm_head")
        return self._names(self.target_modules, module)

    def _names(self, wanted: tuple[str, ...] | str, module: str) -> bool:
        if isinstance(wanted, str):
            return bool(wanted) and self.matcher.full_match(wanted, module)
        return any(module == name or module.endswith(f".{name}") for name in wanted)


def read_peft_config(adapter: str, folder: Path, max_rank: int) -> PeftConfig:
    """Read and check an adapter's `adapter_config.json`; raises AdapterRefused."""
    document = _read_json(adapter, folder / CONFIG_FILE)
    refuse = _Refusal(adapter)
    if document.get("peft_type") != "LORA":
        raise refuse("peft_type", "LORA", document.get("peft_type"))
    _refuse_unserved(refuse, document)
    rank = _rank(refuse, "r", document.get("r"), max_rank)
    matcher = Matcher(_MATCH_SECONDS)
    patterns = _patterns(refuse, document, "rank_pattern", "ranks")
    ranks = {
        pattern: _rank(refuse, f"rank_pattern {pattern}", value, max_rank)
        for pattern, value in patterns.items()
    }
    _check_alphas(refuse, document, matcher)
    layers = document.get("layers_to_transform")
    layers = [layers] if type(layers) is int else layers or []
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise refuse("layers_to_transform", "layer numbers", layers)
    targets = _names_or_pattern(refuse, document, "target_modules")
    if not targets:
        raise refuse("target_modules", "module names or a pattern", document.get("target_modules"))
    layer_lists = _names_or_pattern(refuse, document, "layers_pattern")
    if not isinstance(layer_lists, str) and len(layer_lists) > _MAX_PATTERNS:
        raise refuse("layers_pattern", f"at most {_MAX_PATTERNS} patterns", len(layer_lists))
    return PeftConfig(
        rank=rank,
        rank_pattern=ranks,
        target_modules=targets,
        exclude_modules=_names_or_pattern(refuse, document, "exclude_modules"),
        layers=tuple(layers),
        layers_pattern=(layer_lists,) if isinstance(layer_lists, str) else layer_lists,
        matcher=matcher,
    )


class _Refusal:
    """Makes refusals of this file, one key each."""

    def __init__(self, adapter: str):
        self._adapter = adapter

    def __call__(self, key: str, expected: object, found: object) -> AdapterRefused:
        shown = "nothing" if found is None else json.dumps(found)
        return AdapterRefused(self._adapter, CONFIG_FILE, key, expected, shown)


def _read_json(adapter: str, path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if len(raw) > MAX_CONFIG_BYTES:
        raise AdapterRefused(
            adapter, path.name, "is too large", f"at most {MAX_CONFIG_BYTES} bytes", "more"
        )
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(adapter, path.name, "is not JSON", "a JSON object", error) from error
    if not isinstance(document, dict):
        raise AdapterRefused(
            adapter, path.name, "is not JSON", "an object", type(document).__name__
        )
    return document


def _refuse_unserved(refuse: _Refusal, document: Mapping[str, object]) -> None:
    for key, value in document.items():
        if value and key in _NOT_SERVED:
            raise refuse(f"{key}: {_NOT_SERVED[key]} are not served by vLLM", "it unset", value)
        if value and key not in _READ and key not in _WITHOUT_EFFECT:
            raise refuse(f"{key}: unknown PEFT feature", "it absent or empty", value)
    bias = document.get("bias", "none")
    if bias != "none":
        raise refuse("bias: trained biases are not served by vLLM", '"none"', bias)
    init = document.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _SERVED_INITS:
        raise refuse(
            "init_lora_weights: changes the base's weights before training",
            "true, false or one of " + ", ".join(sorted(_SERVED_INITS)),
            init,
        )


def _rank(refuse: _Refusal, key: str, value: object, max_rank: int) -> int:
    # type() and not isinstance(): true is an int, and no rank.
    if type(value) is not int or not 1 <= value <= max_rank:
        raise refuse(key, f"a rank from 1 to the engine's max_lora_rank {max_rank}", value)
    return value


def _patterns(
    refuse: _Refusal, document: Mapping[str, object], key: str, values: str
) -> dict[str, object]:
    patterns = document.get(key) or {}
    if not isinstance(patterns, dict):
        raise refuse(key, f"a map from patterns to {values}", patterns)
    if len(patterns) > _MAX_PATTERNS:
        raise refuse(key, f"at most {_MAX_PATTERNS} patterns", len(patterns))
    return patterns


def _check_alphas(refuse: _Refusal, document: Mapping[str, object], matcher: Matcher) -> None:
    alphas = _patterns(refuse, document, "alpha_pattern", "numbers")
    named = {f"alpha_pattern {pattern}": alpha for pattern, alpha in alphas.items()}
    for key, value in {"lora_alpha": document.get("lora_alpha"), **named}.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 < value <= MAX_ALPHA
        ):
            raise refuse(key, f"a number above 0 and up to {MAX_ALPHA}", value)
    for pattern in alphas:
        try:
            matcher.full_match(pattern, "")
        except PatternRefused as error:
            raise refuse(f"alpha_pattern {pattern}", "a regular expression", str(error)) from error


def _names_or_pattern(
    refuse: _Refusal, document: Mapping[str, object], key: str
) -> tuple[str, ...] | str:
    value = document.get(key) or ()
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise refuse(key, "a list of names or a pattern", value)
