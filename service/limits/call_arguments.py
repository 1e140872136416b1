"""Caps on the arguments of past calls of tools: JSON in texts, which chat templates get parsed."""

import json
from collections.abc import Sequence

from service.errors import InvalidRequest
from service.limits.depth import MAX_DEPTH, depth, excess


def check_arguments(calls: Sequence[tuple[str, str]], param: str) -> None:
    """Raise InvalidRequest for arguments, by their places, that could not be parsed or hold much.

    The lists, objects and strings of all are counted together, whether or not a text is JSON.
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
