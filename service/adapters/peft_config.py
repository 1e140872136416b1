"""adapter_config.json as PEFT writes it, reduced to the features that vLLM 0.32 serves.

Fails closed: a feature vLLM does not serve is refused by name, and so is a key this module does
not know, unless it is empty. Served features follow `vllm.lora.peft_helper.PEFTHelper`; which
modules a configuration targets follows `peft.tuners.tuners_utils.check_target_module_exists`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from service.adapters.formats import AdapterRefused, Matcher, PatternRefused, full_match
from service.adapters.manifest import CONFIG_FILE
from service.models.base_model import EMBEDDING
from service.sources.reference import MAX_DOCUMENT_BYTES, parse_document

MAX_ALPHA = 1 << 14
"""Above any scale used in training; weights of up to 4 times this are finite in float16."""
_MAX_PATTERNS = 64
_MATCH_SECONDS = 5.0
"""Time for every pattern on every module together; 100 modules take some thousandths of it."""

# Without effect on a trained adapter: names, or options for training only.
_WITHOUT_EFFECT = frozenset(
    {"auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying",
     "eva_config", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config",
     "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config",
     "task_type", "velora_config"}
)  # fmt: skip
# Known, and not served when set. vLLM refuses some of them and silently ignores the others.
NOT_SERVED: Mapping[str, str] = {
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
SERVED_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})


_Alpha = Annotated[float, Field(gt=0, le=MAX_ALPHA)]
_Names = tuple[str, ...] | str | None


class PeftConfig(BaseModel):
    """The part of a LoRA's configuration that decides which tensors it has, and their ranks.

    Patterns are regular expressions over a module's name, matched at its end from a dot on; the
    first that matches wins.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    peft_type: Literal["LORA"]
    rank: int = Field(alias="r")
    rank_pattern: Annotated[Mapping[str, int], Field(max_length=_MAX_PATTERNS)] | None = None
    lora_alpha: _Alpha
    alpha_pattern: Annotated[Mapping[str, _Alpha], Field(max_length=_MAX_PATTERNS)] | None = None
    target_modules: _Names = None
    exclude_modules: _Names = None
    layers_to_transform: int | tuple[int, ...] | None = None
    layers_pattern: Annotated[tuple[str, ...], Field(max_length=_MAX_PATTERNS)] | str | None = None
    bias: Literal["none"] = "none"
    use_rslora: object = None
    init_lora_weights: object = True
    _matcher: Matcher = PrivateAttr(default_factory=lambda: Matcher(_MATCH_SECONDS))

    @field_validator("init_lora_weights")
    @classmethod
    def _keeps_the_base(cls, init: object) -> object:
        if isinstance(init, str) and init.lower() not in SERVED_INITS:
            served = ", ".join(sorted(SERVED_INITS))
            raise ValueError(
                f"changes the base's weights before training: must be a bool or one of {served}"
            )
        return init

    @property
    def named_targets(self) -> tuple[str, ...]:
        """The target modules that are given by name; none for a pattern."""
        return self.target_modules if isinstance(self.target_modules, tuple) else ()

    def rank_of(self, module: str) -> int:
        """Return the rank of one module; raises PatternRefused."""
        for pattern, rank in (self.rank_pattern or {}).items():
            if self._matcher.full_match(rf"(.*\.)?({pattern})", module):
                return rank
        return self.rank

    def targets(self, module: str) -> bool:
        """True if PEFT puts a LoRA on this module; raises PatternRefused."""
        if self._names(self.exclude_modules, module) or not self._is_targeted(module):
            return False
        layers, patterns = self.layers_to_transform, self.layers_pattern or ()
        if layers in (None, ()) or isinstance(self.target_modules, str):
            return True
        if module in self.named_targets:
            return True
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        prefixes = [rf"(?:^|.*?\.){pattern}" for pattern in patterns]
        for prefix in prefixes or [r".*?\.[^.]*"]:
            found = self._matcher.first_match(rf"{prefix}\.(?P<index>\d+)\.", module)
            if found is not None:
                index = found["index"]
                if index is None or not index.isdecimal():
                    raise PatternRefused(f"layers_pattern {prefix!r} leaves no layer's number")
                return int(index) in ((layers,) if isinstance(layers, int) else layers)
        return False

    def _is_targeted(self, module: str) -> bool:
        if self.target_modules == "all-linear":
            return module.rpartition(".")[2] not in (EMBEDDING, "lm_head")
        return self._names(self.target_modules, module)

    def _names(self, wanted: _Names, module: str) -> bool:
        if isinstance(wanted, str):
            return bool(wanted) and self._matcher.full_match(wanted, module)
        return any(matches_name(module, name) for name in wanted or ())


def matches_name(module: str, name: str) -> bool:
    """True if the module's name is, or ends from a dot on with, a name of the configuration."""
    return module == name or module.endswith(f".{name}")


def read_peft_config(adapter: str, folder: Path, max_rank: int) -> PeftConfig:
    """Read and check an adapter's `adapter_config.json`; raises AdapterRefused."""
    with (folder / CONFIG_FILE).open("rb") as file:
        raw = file.read(MAX_DOCUMENT_BYTES + 1)
    config = parse_document(raw, adapter, CONFIG_FILE, PeftConfig, AdapterRefused)
    refuse = partial(AdapterRefused, adapter, CONFIG_FILE)
    for key, value in (config.model_extra or {}).items():
        if value and key in NOT_SERVED:
            reason = f"{key}: {NOT_SERVED[key]} are not served by vLLM"
            raise refuse(reason, "it unset", value)
        if value and key not in _WITHOUT_EFFECT:
            raise refuse(f"{key}: unknown PEFT feature", "it absent or empty", value)
    if not config.target_modules:
        raise refuse("target_modules", "module names or a pattern", "nothing")
    ranks = {f"rank_pattern {name}": rank for name, rank in (config.rank_pattern or {}).items()}
    for key, rank in {"r": config.rank, **ranks}.items():
        if not 1 <= rank <= max_rank:
            raise refuse(key, f"a rank from 1 to the engine's max_lora_rank {max_rank}", rank)
    for pattern in config.alpha_pattern or ():
        try:
            full_match(pattern, "")
        except PatternRefused as error:
            raise refuse(f"alpha_pattern {pattern}", "a regular expression", error) from error
    return config
