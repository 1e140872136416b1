"""Requests and answers of vLLM's completions API: jobs and label reads in, outputs out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from service.engine.contract import (
    Job,
    LabelLogprobs,
    LabelQuery,
    Output,
    Part,
    Query,
    Sampling,
    Structure,
    TokenLogprobs,
)
from service.errors import EngineDead, ServiceError
from service.vllm.conversion import Compiled, structured_outputs
from service.vllm.remote.http_client import Json

_MARK = "token_id:"
"""Beginning of a token's name in log-probabilities with `return_tokens_as_token_ids`."""
_ALWAYS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""Fields that are always sent: the server has defaults of its own for them."""
_OWN = ("max_tokens", "structure", "logit_bias")
_DEFAULTS = {each.name: each.default for each in fields(Sampling) if each.name not in _OWN}
_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_OPTIONS = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern")

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the engines take and give beyond a plain generation, as a start has found out."""

    priority: bool
    labels: bool
    structures: bool


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token's log-probability; its text is decoded here, from the token alone."""

    token_id: int
    logprob: float
    decode: Decode

    @property
    def decoded_token(self) -> str:
        return self.decode([self.token_id])


def query_body(query: Query, model: str, *, priority: bool) -> dict[str, Any]:
    """The part of a request that every query has; `model` is the base's name there."""
    body: dict[str, Any] = {
        "model": query.adapter.engine_name if query.adapter else model,
        "prompt": list(query.prompt),
        "add_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if query.cache_salt:
        body["cache_salt"] = query.cache_salt
    if priority:
        body["priority"] = query.priority
    return body


def job_body(job: Job, model: str, *, priority: bool, stream: bool) -> dict[str, Any]:
    """The request of a generation."""
    sampling = job.sampling
    body = query_body(job, model, priority=priority) | {"max_tokens": sampling.max_tokens}
    for name, default in _DEFAULTS.items():
        value = getattr(sampling, name)
        if name in _ALWAYS or value != default:
            body[name] = list(value) if isinstance(value, tuple) else value
    if sampling.logit_bias:
        body["logit_bias"] = {str(key): value for key, value in sampling.logit_bias.items()}
    if sampling.structure is not None:
        body["structured_outputs"] = _structure(sampling.structure)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def read_body(query: LabelQuery, model: str, *, priority: bool) -> dict[str, Any]:
    """The request of a label read: one token, with the log-probabilities of these."""
    return query_body(query, model, priority=priority) | {
        "max_tokens": 1,
        "temperature": 0.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logprobs": 1,
        "logprob_token_ids": list(query.token_ids),
    }


def _structure(structure: Structure) -> dict[str, Any]:
    own = structure.own
    params = own.params if isinstance(own, Compiled) else structured_outputs(structure)
    named = {name: getattr(params, name, None) for name in (*_KINDS, *_OPTIONS)}
    return {name: value for name, value in named.items() if value not in (None, False)}


@contextmanager
def understood() -> Iterator[None]:
    """Raise ServiceError in place of the errors of an answer that has another form."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServiceError("The engines' answer lacks what was asked for.") from error


def labels_of(answer: Json, query: LabelQuery) -> LabelLogprobs:
    """The log-probabilities of a read's tokens; ServiceError if the answer has not all of them."""
    with understood():
        (choice,) = answer["choices"]
        found = {_id(name): value for name, value in choice["logprobs"]["top_logprobs"][0].items()}
        return LabelLogprobs(
            [found[each] for each in query.token_ids],
            likeliest=choice["token_ids"][0],
            prompt_tokens=len(query.prompt),
            cached_tokens=_cached(answer.get("usage")),
        )


def _id(name: str) -> int:
    return int(name.removeprefix(_MARK))


def _cached(usage: Any) -> int:
    return ((usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0


class AnswerReader:
    """Reads the answer of one job, event by event; the last output waits for the usage."""

    def __init__(self, job: Job, decode: Decode) -> None:
        self.ended_early = False
        """True once this service ended the job early."""
        self._prompt_tokens = len(job.prompt)
        self._decode = decode
        self._asks_logprobs = job.sampling.logprobs is not None
        self._open = set(range(job.sampling.n))
        self._cached = 0
        self._last: Output | None = None

    def read(self, event: Json) -> Output | None:
        """The output of an event; None if it has none, or if it is held back as the last one."""
        with understood():
            if event.get("usage"):
                self._cached = _cached(event["usage"])
            parts = [self._part(choice) for choice in event["choices"]]
        if not parts:
            return None
        output = Output(parts, self._prompt_tokens, self._cached)
        if self._open:
            return output
        self._last = output
        return None

    def whole(self, answer: Json) -> Output:
        """The output of an answer that was no stream, with the prompt's log-probabilities."""
        self.read(answer)
        output = self.end()
        with understood():
            places = answer["choices"][0]["prompt_logprobs"]
            output.prompt_logprobs = [place and self._of_prompt(place) for place in places]
        return output

    def end(self) -> Output:
        """The last output, at the end of the answer; EngineDead if a sequence has not ended.

        The sequences of a job that was ended early have reached their maximum.
        """
        if self._open and not self.ended_early:
            raise EngineDead.midway()
        if self._last is None:
            cut = [Part(index, "", [], "length") for index in sorted(self._open)]
            self._open.clear()
            return Output(cut, self._prompt_tokens, self._cached)
        self._last.cached_tokens = self._cached
        return self._last

    def _part(self, choice: Mapping[str, Any]) -> Part:
        index, reason = choice["index"], choice["finish_reason"]
        if index not in self._open:
            raise ValueError(f"sequence {index} is not open")
        if reason == "abort":  # the engine is about to end
            raise EngineDead.midway()
        if reason not in (None, "stop", "length"):
            raise ValueError(f"finish_reason {reason!r}")
        if reason is not None:
            self._open.discard(index)
        logprobs = self._places(choice["logprobs"]) if self._asks_logprobs else None
        return Part(
            index, choice["text"], choice["token_ids"], reason, choice["stop_reason"], logprobs
        )

    def _places(self, told: Mapping[str, Any]) -> list[TokenLogprobs | None]:
        places = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
        return [
            {
                _id(each): Likelihood(_id(each), value, self._decode)
                for each, value in ({name: own} | top).items()
            }
            for name, own, top in places
        ]

    def _of_prompt(self, place: Mapping[str, Any]) -> TokenLogprobs:
        return {
            int(key): Likelihood(int(key), each["logprob"], self._decode)
            for key, each in place.items()
        }
