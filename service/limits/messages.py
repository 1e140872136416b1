"""Check of conversations before vLLM reads them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.errors import InvalidRequest
from service.limits.depth import MAX_DEPTH, depth, excess
from service.limits.values import check_type
from service.quoting import quote

_MAX_PARTS = 4096


def check_messages(body: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for messages on which vLLM would fail instead of refusing.

    The arguments of past tool calls are JSON in strings, which vLLM parses: the same limits hold
    for all of these together as for the body. Text that is not JSON stays text.
    """
    if "messages" not in body:
        return
    messages = body["messages"]
    if not isinstance(messages, list):
        raise InvalidRequest(f"messages: must be a list, got {quote(messages)}", param="messages")
    if not messages:
        raise InvalidRequest("messages: at least 1, got an empty list", param="messages")
    _check_parts(messages)
    check_arguments(_arguments(messages), "messages")


def with_refusal(message: Any) -> Any:
    """A checked message whose refusal is a part of what it says, where vLLM's templates read it."""
    if not isinstance(message, dict) or "refusal" not in message:
        return message
    read = {key: value for key, value in message.items() if key != "refusal"}
    content = read.get("content") or []
    said = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return read | {"content": [*said, {"type": "refusal", "refusal": message["refusal"]}]}


def check_entries(entries: Any, limit: int, name: str, parts: Iterable[str]) -> None:
    """Raise InvalidRequest unless it is a list of 1..`limit` objects, with few parts in all.

    `parts` are the keys under which an object may hold a list of parts.
    """
    if not isinstance(entries, list):
        raise InvalidRequest(f"{name}: must be a list, got {quote(entries)}", param=name)
    if not 1 <= len(entries) <= limit:
        message = f"{name}: must hold 1..{limit} entries, got {len(entries)}"
        raise InvalidRequest(message, param=name)
    count = 0
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            message = f"{name}[{index}]: must be an object, got {quote(entry)}"
            raise InvalidRequest(message, param=name)
        count += sum(len(held) for key in parts if isinstance(held := entry.get(key), list))
    _check_count(count, name)


def check_arguments(calls: Iterable[tuple[str, str]], param: str) -> None:
    """Raise InvalidRequest for arguments of past calls, by their places, that vLLM could not parse.

    The lists, objects and strings of all are counted together, whether or not a text is JSON.
    """
    given = list(calls)
    bound = excess(*(arguments.encode(errors="surrogatepass") for _, arguments in given))
    if bound is not None:
        raise InvalidRequest(
            f"{param}: the arguments of past calls may hold {bound} together, got more",
            param=param,
        )
    for where, arguments in given:
        if (problem := _problem(arguments)) is not None:
            raise InvalidRequest(f"{where}: {problem}", param=param)


def _check_count(parts: int, name: str) -> None:
    if parts > _MAX_PARTS:
        raise InvalidRequest(
            f"{name}: at most {_MAX_PARTS} parts of content in all, got {parts}", param=name
        )


def _check_parts(messages: list[Any]) -> None:
    """Refuse parts without text, on which vLLM would fail; their types are those of `PARTS`."""
    count = 0
    for number, message in enumerate(messages):
        held = message if isinstance(message, dict) else {}
        content, refusal = held.get("content"), held.get("refusal")
        check_type(refusal, str, f"messages[{number}].refusal", "a text")
        if not isinstance(content, str | list | None):
            message = f"messages[{number}].content: must be a text or a list, got {quote(content)}"
            raise InvalidRequest(message, param="messages")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict) or not isinstance(part.get(part["type"]), str):
                message = f"messages[{number}].content[{index}]: must hold text, got {quote(part)}"
                raise InvalidRequest(message, param="messages")
            count += 1
    _check_count(count, "messages")


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


def _arguments(messages: list[Any]) -> Iterator[tuple[str, str]]:
    for number, message in enumerate(messages):
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for index, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, str):
                yield f"messages[{number}].tool_calls[{index}].function.arguments", arguments
