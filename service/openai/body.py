"""Bodies of OpenAI's and Anthropic's requests: strict models, and the removal of idle fields.

Default deny: a field that no model has is refused by name, so that no parameter reaches the engine
unexamined. A known field that is not supported is refused with the reason.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import is_typeddict

from service.common.error_messages import (
    as_integer,
    asks_nothing,
    nearest,
    problems_in,
    quote,
    quote_name,
)
from service.errors import InvalidRequest, UnsupportedFeature
from service.settings.limits import LimitSettings
from service.tenants.tenant import TIERS

_MOST_NAMED = 256
"""The most unknown keys whose places are reported; a body may have 40,000."""

Shape = Mapping[str, "Shape | Kinds | None"]
"""The keys of an object, or of each object in a list, with the shape of each value; None for
any."""


@dataclass(frozen=True, slots=True)
class Only:
    """Annotates a union discriminated by `type` with the reason why other types are refused.

    `usual` is the type of an object that states no type.
    """

    reason: str
    usual: str | None = None


@dataclass(frozen=True, slots=True)
class Kinds:
    """Shapes of objects by their `type`."""

    shapes: Mapping[str, Shape]
    only: Only

    def of(self, value: Mapping[str, Any], where: str) -> Shape:
        """The shape of an object; raises UnsupportedFeature for a type that is not served."""
        kind = value.get("type")
        kind = self.only.usual if kind is None else kind
        if not isinstance(kind, str) or kind not in self.shapes:
            name, known = f"{where}.type", " or ".join(self.shapes)
            message = f"{name}: must be {known}, got {quote(kind)}; {self.only.reason}"
            raise UnsupportedFeature(message, param=name)
        return self.shapes[kind]


@cache
def shape_of(model: type) -> Shape:
    """The keys of a pydantic model or of a TypedDict."""
    hints = get_type_hints(model, include_extras=True)
    names = model.model_fields if issubclass(model, BaseModel) else hints
    return {name: _within(hints[name]) for name in names}


def _within(hint: Any) -> Shape | Kinds | None:
    """The shape of a value of this type: that of the object, or of the objects in a list."""
    if is_typeddict(hint):
        return shape_of(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        only = next((each for each in inner[1:] if isinstance(each, Only)), None)
        return _within(inner[0]) if only is None else _kinds(inner[0], only)
    if origin in (list, Required, NotRequired, Union, UnionType):
        return next((shape for each in inner if (shape := _within(each))), None)
    return None


def _kinds(union: Any, only: Only) -> Kinds:
    shapes: dict[str, Shape] = {}
    for member in get_args(union) or (union,):
        shapes |= dict.fromkeys(get_args(get_type_hints(member)["type"]), shape_of(member))
    return Kinds(shapes, only)


class Cleaning:
    """Removes keys that have no effect: nulls, hints, and unknown keys with an empty value.

    With `refuse` other unknown keys are errors.
    """

    def __init__(self, hints: frozenset[str], *, refuse: bool) -> None:
        self._hints = hints
        self._refuse = refuse
        self._unknown: set[str] = set()

    @property
    def ignored(self) -> tuple[str, ...]:
        """The places of unknown keys, such as `messages[].x`."""
        return tuple(sorted(self._unknown))

    def clean(self, value: Any, shape: Shape | Kinds | None, where: str = "") -> Any:
        """The value with only its shape's keys; raises UnsupportedFeature for a refused key."""
        if shape is None:
            return value
        if isinstance(value, list):
            return [self.clean(each, shape, f"{where}[{n}]") for n, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        keys = shape.of(value, where) if isinstance(shape, Kinds) else shape
        cleaned = {}
        for key, entry in value.items():
            if entry is None or (key in self._hints and key not in keys):
                continue
            if key in keys:
                place = f"{where}.{key}" if where else key
                cleaned[key] = self.clean(as_integer(entry), keys[key], place)
            elif where == _TEMPLATE or not asks_nothing(key, entry):
                self._meet(key, keys, where)
        return cleaned

    def _meet(self, key: str, known: Shape, where: str) -> None:
        name = quote_name(key)
        place = f"{where}.{name}" if where else name
        if self._refuse:
            message = f"{place}: not a field of this route{nearest(key, known)}"
            raise UnsupportedFeature(message, param=place)
        if len(self._unknown) < _MOST_NAMED:
            self._unknown.add(re.sub(r"\[\d+\]", "[]", place))


def _open(schema: dict[str, Any]) -> None:
    """Let a JSON schema allow other keys, as hints may stand everywhere; put defaults into words.

    Generators of typed clients treat a field with a `default` as one that must be sent.
    """
    schema.pop("additionalProperties", None)
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None:
            told = f"{json.dumps(default)} if it is left out."
            field["description"] = f"{field.get('description', '')} {told}".lstrip()


STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=_open)
"""Configuration of bodies and, by `with_config`, of the TypedDicts within them."""

Many: Any = Field(fail_fast=True)
"""For every list of a body: only the first bad item is reported, as each error takes a kilobyte."""

_LEAST, _MOST = 1 - 2**63, 2**63 - 1
Int64 = Annotated[int, Field(ge=_LEAST, le=_MOST)]
"""An integer that a message to the engine can hold."""

_TEMPLATE = "chat_template_kwargs"


@dataclass(frozen=True, slots=True)
class Rules:
    """Fields of a route beyond those of its model.

    `hints` are keys that never change an answer here; they are dropped at every level. `no_ops`
    maps a field to the values that mean the same as leaving it out; with such a value the field is
    dropped. `refused` maps a known but unsupported field to the reason, or to the field to use
    instead.
    """

    hints: frozenset[str]
    no_ops: Mapping[str, tuple[Any, ...]]
    refused: Mapping[str, str]


class Body(BaseModel):
    """The body of one route's requests; `read_body` makes it."""

    model_config = ConfigDict(**STRICT, use_attribute_docstrings=True)
    rules: ClassVar[Rules]

    model: str = Field(description="The base model, or an adapter.")
    service_tier: str | None = Field(None, json_schema_extra={"enum": [*TIERS, None]})
    """`flex` runs when there is room, `default` is interactive; without it the key's own tier."""

    def settle(self, limits: LimitSettings, context: int) -> None:
        """Check values against the settings and the model's `context` length, and fill in defaults.

        Raises InvalidRequest.
        """


Model = TypeVar("Model", bound=Body)


def read_body(
    kind: type[Model], value: Any, limits: LimitSettings, context: int
) -> tuple[Model, tuple[str, ...]]:
    """Validate a JSON object as a body; also returns the places of unknown fields in it.

    Nulls, hints and values that change nothing are left out, unknown fields too if the settings say
    so. Raises InvalidRequest for the first field that is unknown, not served, missing or not valid.
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"body: must be an object, got {quote(value)}")
    body = _plain(kind, value)
    ignored: tuple[str, ...] = ()
    if body is None:
        value, ignored = clean_body(kind, value, limits)
        try:
            body = kind.model_validate(value)
        except ValidationError as error:
            raise refusal(error, value) from None
    body.settle(limits, context)
    return body, ignored


def _plain(kind: type[Model], value: Mapping[str, Any]) -> Model | None:
    """The body, if it validates as it is; None if something must be removed or refused."""
    if _TEMPLATE in value or not value.keys() <= kind.model_fields.keys():
        return None
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def clean_body(
    kind: type[Body], value: Mapping[str, Any], limits: LimitSettings
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A JSON object without the fields that have no effect, and the places of unknown fields.

    Raises UnsupportedFeature for the first field that is not served, or unknown if the settings
    refuse unknown fields.
    """
    rules, shape = kind.rules, shape_of(kind)
    asked = {name: entry for name, entry in value.items() if not _asks_nothing(name, entry, kind)}
    if _TEMPLATE in shape:
        shape = {**shape, _TEMPLATE: dict.fromkeys(limits.chat_template_kwargs)}
    cleaning = Cleaning(rules.hints, refuse=limits.unknown_fields == "refuse")
    return cleaning.clean(asked, shape), cleaning.ignored


def _asks_nothing(name: str, value: Any, kind: type[Body]) -> bool:
    """True for a top-level field that has no effect; raises for a known one that is not served."""
    rules, served = kind.rules, name in kind.model_fields
    if value is None or (name in rules.hints and not served):
        return True
    no_op = rules.no_ops.get(name, ())
    if value in no_op and (not served or value == []):
        return True
    reason = None if served or asks_nothing(name, value) else rules.refused.get(name)
    if reason is not None:
        only = f"; the only value is {json.dumps(no_op[0])}, got {quote(value)}" if no_op else ""
        raise UnsupportedFeature(f"{name}: not served, {reason}{only}", param=name)
    return False


def refusal(error: ValidationError, value: object) -> InvalidRequest:
    """The error of a body for the first problem that pydantic found in it."""
    problem = problems_in(value, _worded(error))[0]
    return InvalidRequest(str(problem)[:400], param=problem.field or None)


_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be an integer",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a text",
    "too_long": "must hold at most {max_length}",
    "too_short": "must hold at least {min_length}",
}
"""Messages for errors that pydantic reports by type."""


def _worded(error: ValidationError) -> Iterator[dict[str, Any]]:
    for found in error.errors(include_url=False):
        context = found.get("ctx", {})
        if {_LEAST, _MOST} & {context.get("ge"), context.get("le")}:
            words = "an integer must fit into 64 bits"
        else:
            known = _WORDS.get(found["type"])
            words = found["msg"] if known is None else known.format_map(context)
        yield {**found, "msg": words}


OPERATORS = "it is a parameter of the engine's operators"
TEXT_ONLY = "prompts and answers are text"
_BEAMS = "beam search holds the engine for many sequences; set n"

OPENAI = Rules(
    hints=frozenset(
        """metadata store safety_identifier prompt_cache_key prompt_cache_retention
        verbosity prediction include_obfuscation cache_control annotations index""".split()
    ),
    no_ops={
        "best_of": (1,),
        "early_stopping": (False,),
        "echo": (False,),
        "function_call": ("none",),
        "functions": ([],),
        "length_penalty": (1,),
        "logprob_token_ids": ([],),
        "media_io_kwargs": ({},),
        "mm_processor_kwargs": ({},),
        "modalities": (["text"],),
        "priority": (0,),
        "return_prompt_text": (False,),
        "return_token_offsets": (False,),
        "return_weight_versions": (False,),
        "stream_interval": (1,),
        "thinking_token_budget": (-1,),
        "tools": ([],),
        "use_beam_search": (False,),
        "vllm_xargs": ({},),
        "watermarking": (False,),
    },
    refused={
        "audio": TEXT_ONLY,
        "best_of": "answers are not ranked; set n",
        "cache_salt": "each tenant has its own",
        "chat_template": "templates from requests are never run; set chat_template_kwargs",
        "early_stopping": _BEAMS,
        "ec_transfer_params": OPERATORS,
        "echo": "a chat does not repeat its messages",
        "function_call": "set tool_choice",
        "functions": "set tools",
        "guided_choice": "set structured_outputs.choice",
        "guided_decoding_backend": "structures have one compiler",
        "guided_grammar": "an ambiguous grammar takes seconds before each token",
        "guided_json": "set structured_outputs.json",
        "guided_regex": "set structured_outputs.regex",
        "guided_whitespace_pattern": "structures have one compiler",
        "kv_transfer_params": OPERATORS,
        "length_penalty": _BEAMS,
        "logprob_token_ids": "set logprobs, or call /v1/classify",
        "media_io_kwargs": TEXT_ONLY,
        "mm_payload": TEXT_ONLY,
        "mm_processor_kwargs": TEXT_ONLY,
        "modalities": TEXT_ONLY,
        "priority": "it is the tenant's, not the request's",
        "prompt_embeds": TEXT_ONLY,
        "repetition_detection": "set stop, max_tokens or repetition_penalty",
        "request_id": "send the header X-Request-Id",
        "return_mm_kwargs": TEXT_ONLY,
        "return_prompt_text": "call /v1/tokenize and /v1/detokenize",
        "return_token_offsets": "call /v1/tokenize and /v1/detokenize",
        "return_weight_versions": "a model's weights stay while it is served",
        "routed_experts_prompt_start": OPERATORS,
        "session_id": "requests are not bound to a session",
        "stream_interval": "a stream's parts are as long as the engine's steps",
        "thinking_token_budget": "set max_tokens, or reasoning_effort",
        "use_beam_search": _BEAMS,
        "vllm_xargs": OPERATORS,
        "watermarking": OPERATORS,
        "web_search_options": "the service searches nothing",
    },
)
"""The rules of chat completions and completions."""
