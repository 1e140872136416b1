"""Bounds on what one request may ask for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from service.settings.section import Section

_FRAME = frozenset(
    """chat_template tokenize messages conversation tools documents add_generation_prompt
    continue_final_message return_dict return_tensors padding truncation max_length""".split()
)
"""Parameters of a chat template that requests set otherwise, or not at all."""


def _free(name: str) -> str:
    if name in _FRAME:
        raise ValueError(f"{name} is no variable that a request may set here")
    return name


TemplateKwarg = Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$"), AfterValidator(_free)]


class SamplingDefaults(Section):
    """Sampling of answers for requests that do not set it themselves."""

    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Share of probability that the kept tokens have; 1 is off."
    )
    top_k: int | None = Field(None, ge=0, description="Likeliest tokens to keep; 0 is off.")
    min_p: float | None = Field(
        None, ge=0, le=1, description="Least probability of a token, as a share of the likeliest's."
    )
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, description="Above 1 makes repeated tokens less likely."
    )


class StructureLimits(Section):
    """Which parts of a schema may be checked after the answer instead of enforced."""

    unenforced: Literal["check", "refuse"] = Field(
        "check",
        description="Keywords of a JSON schema that no grammar enforces "
        "(docs/structured-output.md): check the whole answer, or refuse the request.",
    )


class LimitSettings(Section):
    """Caps on every request, checked before the engine sees it."""

    n: int = Field(16, ge=1, description="Sequences per prompt.")
    prompts: int = Field(64, ge=1, description="Prompts in one OpenAI completion request.")
    messages: int = Field(512, ge=1, description="Messages in one conversation.")
    documents: int = Field(64, ge=0, description="Documents of one chat request.")
    stop: int = Field(32, ge=0, description="Stop strings.")
    stop_bytes: int = Field(256, ge=1, description="Length of one stop string, in bytes.")
    stop_token_ids: int = Field(
        64,
        ge=0,
        le=120,
        description="Stop token ids; vLLM has room for 128, the model's own included.",
    )
    bad_words: int = Field(64, ge=0, le=64, description="Words that must not be generated.")
    bad_words_bytes: int = Field(
        512, ge=1, le=512, description="Length of all `bad_words` together, in bytes."
    )
    logprobs: int = Field(20, ge=0, description="Top log-probabilities per token.")
    answer_logprobs: int = Field(
        16_384, ge=1, description="Log-probabilities in one OpenAI answer that is not streamed."
    )
    echo_logprobs: int = Field(
        4096,
        ge=0,
        description="Log-probabilities of a request's prompts (`prompt_logprobs`, or `echo` with "
        "`logprobs`); 0 refuses them, as on GPUs beside adapters if the output layer is not the "
        "embedding.",
    )
    logit_bias: int = Field(300, ge=0, le=1024, description="Entries in `logit_bias`.")
    allowed_token_ids: int = Field(
        1024, ge=0, le=1024, description="Entries in `allowed_token_ids`."
    )
    choices: int = Field(256, ge=1, description="Entries in a structured `choice`.")
    choice_bytes: int = Field(1024, ge=1, description="Length of one `choice` entry, in bytes.")
    choices_bytes: int = Field(
        32 * 1024, ge=1, description="Length of all entries of a `choice` together, in bytes."
    )
    schema_bytes: int = Field(16 * 1024, ge=2, description="Size of a JSON schema, in bytes.")
    schema_depth: int = Field(16, ge=1, description="Nesting of a JSON schema.")
    schema_alternatives: int = Field(
        512,
        ge=1,
        description="Alternatives of a request's JSON schemas: branches of `anyOf` and `oneOf`, "
        "types in lists, objects and lists in `enum`.",
    )
    regex_bytes: int = Field(1024, ge=1, description="Length of a regex or grammar, in bytes.")
    tools: int = Field(128, ge=0, description="Tools in one chat request.")
    tools_bytes: int = Field(
        512 * 1024, ge=2, description="Size of the schemas of a request's tools together, in bytes."
    )
    classify_inputs: int = Field(256, ge=1, description="Inputs in one classification request.")
    candidate_labels: int = Field(256, ge=2, description="Labels in one classification request.")
    embedding_inputs: int = Field(
        2048, ge=1, description="Inputs in one embeddings request; OpenAI's own limit."
    )
    embedding_values: int = Field(
        1 << 20,
        ge=1,
        description="Numbers of one request's embeddings, inputs times dimensions; as JSON they "
        "take 20 MB.",
    )
    pairs: int = Field(
        1000,
        ge=1,
        description="Documents in one rerank request (Cohere's own limit), or pairs in one score "
        "request.",
    )
    encoder_input_bytes: int = Field(
        256 * 1024,
        ge=1,
        description="Length of one text for an encoder, in bytes, also of what is cut afterwards.",
    )
    label_bytes: int = Field(256, ge=1, description="Length of one label, in bytes.")
    default_max_tokens: int | None = Field(
        None,
        ge=1,
        description="Longest answer of an OpenAI chat that sets no maximum, in tokens; null: what "
        "the context leaves.",
    )
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse",
        description="Unknown fields of a body, unless null, false or empty: `refuse` the request, "
        "or `ignore` them and name them in the header `X-Ignored-Fields`. Known fields that are "
        "not served are always refused.",
    )
    structures: StructureLimits = StructureLimits()
    chat_template_kwargs: tuple[TemplateKwarg, ...] = Field(
        (
            *("enable_thinking", "thinking", "reasoning_effort"),
            *("preserve_thinking", "clear_thinking"),
        ),
        description="Keys of `chat_template_kwargs` that a chat may set. Values are texts, "
        "numbers, true or false.",
    )
