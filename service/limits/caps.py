"""Caps on JSON values, log-probabilities, template variables and the texts of encoders."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.common.error_messages import quote
from service.engine.texts import size_of
from service.errors import InvalidRequest
from service.settings.limits import LimitSettings

MAX_DEPTH = 64
"""Largest nesting depth of a request's JSON."""

MAX_HOLDERS = 10_000
"""Most lists and objects in a request's JSON: validating one may block the event loop for 4 us."""

MAX_STRINGS = 40_000
"""Most strings in a request's JSON, names of fields included; one that ends in a backslash counts
for half.
"""

_STRINGS = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)[^"\[{]*+)++', re.DOTALL)
"""Strings of JSON up to the next bracket; one without an end goes to the end, so that each byte is
read once.
"""


def excess(*documents: bytes) -> str | None:
    """The limit that the JSON documents together exceed, as a phrase; found without parsing.

    Parsing blocks all other threads: 40 to 66 ms for 1 MiB of empty lists, 20 to 56 for short
    fields.
    """
    if sum(map(_brackets, documents)) > MAX_HOLDERS and (
        sum(_brackets(_STRINGS.sub(b"", raw)) for raw in documents) > MAX_HOLDERS
    ):
        return f"at most {MAX_HOLDERS} lists and objects"
    if sum(map(_quotes, documents)) > 2 * MAX_STRINGS:
        return f"at most {MAX_STRINGS} texts and names of fields"
    return None


def _brackets(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def _quotes(raw: bytes) -> int:
    """Quotes without a backslash before them: one or two for each string, and none within it."""
    return raw.count(b'"') - raw.count(b'\\"')


def depth(node: Any) -> int:
    """The nesting depth of lists and objects in a value; 0 for a scalar."""
    levels, level = 0, [node] if isinstance(node, dict | list) else []
    while level:
        levels += 1
        children = (
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
        )
        level = [child for child in children if isinstance(child, dict | list)]
    return levels


def check_arguments(calls: Sequence[tuple[str, str]], param: str) -> None:
    """Raise InvalidRequest for arguments of tool calls that are too large or cannot be parsed.

    `calls` pairs each place in the request with its arguments. Lists, objects and strings are
    counted over all arguments together, also in texts that are not JSON.
    """
    bound = excess(*(arguments.encode(errors="surrogatepass") for _, arguments in calls))
    if bound is not None:
        raise InvalidRequest(
            f"{param}: the arguments of past calls may hold {bound} together, got more",
            param=param,
        )
    for where, arguments in calls:
        if (problem := _problem(arguments)) is not None:
            raise InvalidRequest(f"{where}: {problem}", param=param)


def _problem(arguments: str) -> str | None:
    try:
        value = json.loads(arguments)
        if depth(value) > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        return None
    except RecursionError:
        return f"nested deeper than {MAX_DEPTH} levels"
    except UnicodeEncodeError:
        return "must not hold lone surrogates"
    except ValueError:
        return "must not hold integers of thousands of digits"
    return None


_TEXT_BYTES = 256


def check_template_kwargs(kwargs: Mapping[str, Any] | None) -> None:
    """Raise for template variables that could be slow: only switches and short texts pass."""
    for key, value in (kwargs or {}).items():
        where = f"chat_template_kwargs.{key}"
        if not isinstance(value, bool | int | float | str):
            message = f"{where}: must be a text, a number, true or false, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        if isinstance(value, int) and value.bit_length() > 63:
            message = f"{where}: an integer must fit into 64 bits, got {quote(value)}"
            raise InvalidRequest(message, param=where)
        if isinstance(value, str) and (size := size_of(value)) > _TEXT_BYTES:
            message = f"{where}: at most {_TEXT_BYTES} bytes, got {size}"
            raise InvalidRequest(message, param=where)


def check_answer_logprobs(answers: int, tokens: int, per_token: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest if an answer that is not streamed may hold too many log-probabilities.

    A whole answer is built in one go, about 3 us for each of them.
    """
    most = answers * tokens * per_token
    if most > limits.answer_logprobs:
        raise InvalidRequest(
            f"logprobs: at most {limits.answer_logprobs} in an answer that is not streamed, got up "
            f"to {answers} x {tokens} tokens x {per_token} = {most}: ask for a shorter answer, for "
            "fewer alternatives, or for a stream",
            param="logprobs",
        )


def check_prompt_logprobs(total: int, limits: LimitSettings) -> None:
    """Raise InvalidRequest for too many log-probabilities of a request's prompts.

    vLLM reads and builds them in one go, up to 9 us for each, streamed or not.
    """
    if total and not limits.echo_logprobs:
        raise InvalidRequest(
            "logprobs: there are none of prompts here (`echo` with `logprobs`, `prompt_logprobs`): "
            "limits.echo_logprobs is 0",
            param="logprobs",
        )
    if total > limits.echo_logprobs:
        raise InvalidRequest(
            f"logprobs: at most {limits.echo_logprobs} for the prompts of a request, got {total}: "
            "send shorter or fewer prompts, or ask for fewer alternatives",
            param="logprobs",
        )


def check_text(text: str, place: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest for an encoder's text that is empty or too long."""
    check_size(text, limits.encoder_input_bytes, place)


def check_size(text: str, most: int, place: str) -> None:
    """Raise InvalidRequest, naming its place in the body, for an empty text or too long a one."""
    if not 1 <= (size := size_of(text)) <= most:
        raise InvalidRequest(f"{place}: 1..{most} bytes, got {size}", param=place.partition("[")[0])


def check_values(count: int, width: int, field: str, limits: LimitSettings) -> None:
    """Raise InvalidRequest for embeddings that hold more numbers than one request may ask for."""
    if count * width > limits.embedding_values:
        raise InvalidRequest(
            f"{field}: at most {limits.embedding_values} numbers, got {count} texts of {width} "
            "dimensions",
            param=field,
        )


def check_entries(count: int, most: int, field: str, noun: str) -> None:
    """Raise InvalidRequest for no entries of a field, or more than `most`; `noun` names them."""
    if not 1 <= count <= most:
        raise InvalidRequest(f"{field}: 1..{most} {noun}, got {count}", param=field)
