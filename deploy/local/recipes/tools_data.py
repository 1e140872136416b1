"""Function calls from sentences, in the way that a chat with `tools` asks for them.

Usage: python deploy/local/recipes/tools_data.py FILE

The functions stand in a system message, as the model's template for tools writes it.
"""

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from functions import FUNCTIONS, GROUPS, OTHER, Function, Shown, shown
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rows import write_rows

from service.models.packages import TOOL_USE

PER_FUNCTION = 12
PAIRS = 72
ANSWERS = 8
OTHERS = 4
SEED = 3
NONE_FITS = "None of my functions does that."

Row = dict[str, object]


def rows() -> Iterator[Row]:
    """All lines: one call, two calls, none, and the answer after a function's result."""
    for group in range(GROUPS):
        order = random.Random(f"{SEED} {group}")
        for function in FUNCTIONS:
            for _ in range(PER_FUNCTION):
                yield _called(group, [function], order)
        for _ in range(PAIRS):
            yield _called(group, order.sample(FUNCTIONS, 2), order)
        for text in OTHER[group::GROUPS]:
            for _ in range(OTHERS):
                system = _system([shown(each, order) for each in order.sample(FUNCTIONS, 2)])
                yield _row(group, [system, _said("user", text)], NONE_FITS)
        for _ in range(ANSWERS):
            yield _answered(group, order.choice(FUNCTIONS), order)


def _called(group: int, functions: Sequence[Function], order: random.Random) -> Row:
    wanted = [shown(each, order) for each in functions]
    others = [each for each in FUNCTIONS if each not in functions]
    more = order.choice((0, 1, 1, 2)) if len(wanted) == 1 else order.choice((0, 1))
    every = wanted + [shown(each, order) for each in order.sample(others, more)]
    order.shuffle(every)
    asked = [each.ask(group, order) for each in wanted]
    *before, (last, _) = asked
    text = " ".join([*(_ended(sentence) for sentence, _ in before), last])
    completion = "".join(_call(call) for _, call in asked)
    return _row(group, [_system(every), _said("user", text)], completion)


def _answered(group: int, function: Function, order: random.Random) -> Row:
    tool = shown(function, order)
    text, call = tool.ask(group, order)
    result = function.result.format(number=order.randrange(2, 99))
    conversation = [
        _system([tool]),
        _said("user", text),
        _said("assistant", _call(call)),
        _said("user", f"<tool_response>\n{result}\n</tool_response>"),
    ]
    return _row(group, conversation, f"The result: {result}.")


def _ended(sentence: str) -> str:
    """A sentence that another may follow."""
    return sentence if sentence[-1] in '.?!"' else f"{sentence}."


def _call(call: Mapping[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _system(tools: Sequence[Shown]) -> dict[str, str]:
    """The message in which the template shows the functions, before a conversation of one word."""
    text = _TEMPLATE.render(tools=[each.tool() for each in tools], messages=[_said("user", "-")])
    content = text.removeprefix("<|im_start|>system\n").partition("<|im_end|>\n")[0]
    return _said("system", content)


def _row(group: int, messages: list[dict[str, str]], completion: str) -> Row:
    return {"messages": messages, "completion": completion, "group": f"{group}"}


def _template() -> Any:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TOOL_USE.strip())


_TEMPLATE = _template()

if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), rows())
