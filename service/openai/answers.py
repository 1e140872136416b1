"""Models of the answers of chat completions, completions and models, for the OpenAPI description.

Answers are not built from these models, and may have further fields of OpenAI and vLLM, always
null.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.engine.pooling import EncoderTask
from service.tenants.tenant import Tier

FinishReason = Literal["stop", "length", "tool_calls"]


class Described(BaseModel):
    """An object of an answer; it may have fields beyond those described."""

    model_config = ConfigDict(extra="allow")


class PromptTokens(Described):
    """Tokens of the prompt, by where they came from."""

    cached_tokens: int | None = None
    created_cache_tokens: int | None = None


class CompletionTokens(Described):
    """Tokens of the answer, by what they are."""

    reasoning_tokens: int


class CompletionUsage(Described):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens | None = None
    completion_tokens_details: CompletionTokens | None = None


class PromptLogprob(Described):
    """The log-probability of a token of the prompt, and its rank in the vocabulary."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""Log-probabilities of each token of a prompt by token id; null for the first."""


class Answer(Described):
    """Fields that every answer has."""

    id: str
    created: int = Field(description="Seconds since 1970.")
    model: str
    service_tier: Tier | None = None
    system_fingerprint: str | None = None
    usage: CompletionUsage


class Choice(Described):
    """Fields that every choice of an answer has."""

    index: int
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = Field(
        None, description="The text or the token of `stop` or `stop_token_ids` that ended it."
    )
    token_ids: list[int] | None = None


class LikelyToken(Described):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class SampledToken(LikelyToken):
    """A token of the answer, and the most likely alternatives at its position."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Described):
    """Log-probabilities of an answer's tokens."""

    content: list[SampledToken] | None = None


class AnswerFunction(Described):
    """A function to call, with its arguments in JSON as the model wrote it."""

    name: str
    arguments: str


class AnswerCall(Described):
    """A call that the model makes."""

    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(Described):
    """What the model says."""

    role: str
    content: str | None = None
    tool_calls: list[AnswerCall] = Field(default=[], description="Only where there are any.")
    reasoning: str | None = None


class ChatChoice(Choice):
    """One answer to a conversation."""

    message: AnswerMessage
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Answer):
    """The whole answer to a chat completion."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    prompt_text: str | None = None


class CompletionLogprobs(Described):
    """Log-probabilities of a text's tokens."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(Choice):
    """One continuation of a prompt."""

    text: str
    logprobs: CompletionLogprobs | None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class Completion(Answer):
    """The whole answer to a completion."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class Permission(Described):
    """A permission in OpenAI's form; the same for every model."""

    id: str
    object: Literal["model_permission"]
    created: int
    allow_create_engine: bool
    allow_sampling: bool
    allow_logprobs: bool
    allow_search_indices: bool
    allow_view: bool
    allow_fine_tuning: bool
    organization: str
    group: str | None = None
    is_blocking: bool


class Model(Described):
    """A model that requests may name: the base model, an adapter or an encoder."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None = None
    max_model_len: int = Field(description="The longest prompt with its answer, in tokens.")
    permission: list[Permission] = []
    task: Literal["generation", "classification"] | EncoderTask
    tools: bool = Field(description="True where a chat may call tools.")
    sampling: dict[str, Any] = Field({}, description="What a request that sets nothing gets.")
    digest: str | None = Field(None, description="Of an encoder's files.")
    dimensions: int | None = Field(None, description="Numbers of an embedding.")
    matryoshka: bool | None = Field(None, description="True where these may be fewer.")
    labels: list[str] | None = Field(None, description="Of an encoder.")
    zero_shot: bool | None = Field(None, description="True where a request may bring its labels.")


class ModelList(Described):
    """The models that the caller may use."""

    object: Literal["list"]
    data: list[Model]
