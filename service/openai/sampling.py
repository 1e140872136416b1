"""Fields about sampling, which bodies of several APIs have, and the parameters that they make."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.engine.protocol import Sampling, Structure
from service.engine.text_size import size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.structure import check_choice, check_regex, check_schema
from service.openai.body import STRICT, Body, Int64, Many
from service.quoting import quote
from service.settings.limits import LimitSettings

LEAST_PENALTY = 0.01
"""The least penalty of repetitions with which every logit stays a number."""

Text = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, le=2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

_STANDARD = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""Values for what neither the request nor the model's defaults set."""

_ENTRIES = ("stop", "stop_token_ids", "logit_bias")
_LARGEST_BIAS = 100.0


@with_config(STRICT)
class StructuredOutputs(TypedDict, total=False):
    """A constraint on the answer: exactly one of these."""

    json: dict[str, Any]
    regex: str
    choice: Annotated[list[str], Many]
    json_object: Literal[True]


class SampledBody(Body):
    """A body with the parameters of sampling that all APIs but Anthropic's have."""

    stream: bool | None = Field(None, description="Send the answer as server-sent events.")
    user: str | None = Field(None, description="A name for the user; without effect.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="0 is greedy.", examples=[0.7]
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Sample from the most likely tokens that have this probability together."
    )
    top_k: Annotated[int, Field(ge=-1, le=2**63 - 1)] | None = Field(
        None, description="Sample from so many of the most likely tokens; 0 and -1 are off."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Leave out tokens below this share of the most likely one's probability."
    )
    presence_penalty: Penalty | None = Field(None, description="Against tokens already used.")
    frequency_penalty: Penalty | None = Field(None, description="Against tokens used often.")
    # Logits are float32, whose range penalties of 1e308 and 1e-300 leave. Beside a grammar the
    # engine then took a token that the grammar does not allow, and ended the request.
    repetition_penalty: Annotated[float, Field(ge=LEAST_PENALTY, le=100)] | None = Field(
        None, description="Above 1 against tokens of the prompt and the answer."
    )
    logit_bias: dict[str, Any] | None = Field(
        None,
        description="Numbers in -100..100 that are added to the logits of tokens, by token id.",
        json_schema_extra={"additionalProperties": {"type": "number"}},
    )
    seed: Int64 | None = Field(None, description="The same seed samples the same answer.")
    stop: Text | Annotated[list[Text], Many] | None = Field(
        None, description="Texts that end the answer, which leaves them out."
    )
    stop_token_ids: Annotated[list[TokenId], Many] | None = Field(
        None, description="Tokens that end the answer."
    )
    ignore_eos: bool = Field(False, description="Go on after the model's end of a text.")
    skip_special_tokens: bool = Field(True, description="Leave special tokens out of the answer.")
    include_stop_str_in_output: bool = Field(False, description="Keep the text that ended it.")
    structured_outputs: StructuredOutputs | None = Field(
        None, description="A constraint on the answer: a JSON schema, a regular expression, ..."
    )

    def settle(self, limits: LimitSettings, context: int) -> None:
        check_entries(self, limits, *_ENTRIES)
        for stop in self.stops:
            if (size := size_of(stop)) > limits.stop_bytes:
                message = f"stop: at most {limits.stop_bytes} bytes, got {size}"
                raise InvalidRequest(message, param="stop")
        if self.logit_bias is not None:
            _biases(self.logit_bias)
        if self.structured_outputs is not None:
            _check_structure(self.structured_outputs, limits)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of `stop`."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def structure(self) -> Structure | None:
        """The constraint on the answer, if there is one."""
        asked = self.structured_outputs
        if asked is None:
            return None
        choice = asked.get("choice")
        return Structure(
            json_schema=asked.get("json"),
            regex=asked.get("regex"),
            choice=None if choice is None else tuple(choice),
            json_object="json_object" in asked,
        )

    def sampled(self, defaults: Mapping[str, Any], **own: Any) -> Sampling:
        """Parameters of sampling, with those that a body has of its `own`.

        What is not set has the model's `defaults`.
        """
        token_ids = (*(self.stop_token_ids or ()), *(defaults.get("stop_token_ids") or ()))
        return Sampling(
            **{name: value_or_default(name, getattr(self, name), defaults) for name in _STANDARD},
            seed=self.seed,
            stop=self.stops,
            stop_token_ids=tuple(dict.fromkeys(token_ids)),
            logit_bias=None if self.logit_bias is None else _biases(self.logit_bias),
            ignore_eos=self.ignore_eos,
            skip_special_tokens=self.skip_special_tokens,
            include_stop_str_in_output=self.include_stop_str_in_output,
            structure=self.structure,
            **own,
        )


def value_or_default(name: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """A parameter of sampling: as asked for, else the model's default, else the usual one."""
    return defaults.get(name, _STANDARD[name]) if value is None else value


def check_entries(body: Body, limits: LimitSettings, *names: str) -> None:
    """Raise InvalidRequest for a list or an object of more entries than the cap of its name."""
    for name in names:
        value, limit = getattr(body, name), getattr(limits, name)
        if isinstance(value, list | dict) and len(value) > limit:
            raise InvalidRequest(f"{name}: at most {limit} entries, got {len(value)}", param=name)


def check_count(value: int | None, least: int, limit: int, name: str) -> None:
    """Raise InvalidRequest for a number outside `least`..`limit`."""
    if value is not None and not least <= value <= limit:
        raise InvalidRequest(f"{name}: must be {least}..{limit}, got {quote(value)}", param=name)


def _check_structure(asked: StructuredOutputs, limits: LimitSettings) -> None:
    if len(asked) != 1:
        known = ", ".join(StructuredOutputs.__annotations__)
        raise UnsupportedFeature(
            f"structured_outputs: must hold one of {known}, got {quote(asked)}",
            param="structured_outputs",
        )
    if "json" in asked:
        check_schema(asked["json"], limits, "structured_outputs.json")
    if "regex" in asked:
        check_regex(asked["regex"], limits, "structured_outputs.regex")
    if "choice" in asked:
        check_choice(asked["choice"], limits, "structured_outputs.choice")


def _biases(given: Mapping[str, Any]) -> dict[int, float]:
    """Biases by token; more than 100 is 100."""
    found = {}
    for token, bias in given.items():
        if not token.isdecimal() or not token.isascii() or len(token) > 18:
            message = f"logit_bias: must hold token ids, got {quote(token)}"
            raise InvalidRequest(message, param="logit_bias")
        if type(bias) not in (int, float):
            name = f"logit_bias.{token}"
            raise InvalidRequest(f"{name}: must be a number, got {quote(bias)}", param=name)
        found[int(token)] = float(min(_LARGEST_BIAS, max(-_LARGEST_BIAS, bias)))
    return found
