"""Calls of functions in an answer, written in blocks as the templates of Hermes and Qwen ask."""

import json
import re
from typing import Any

_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def read_calls(answer: str) -> tuple[str, list[Any]]:
    """The text outside of the blocks, and the value of each block.

    Raises ValueError for a block that is not JSON or does not end.
    """
    text = _BLOCK.sub("", answer).strip()
    if "<tool_call>" in text:
        raise ValueError("a call does not end with </tool_call>")
    try:
        return text, [json.loads(block) for block in _BLOCK.findall(answer)]
    except RecursionError:
        raise ValueError("a call is nested too deeply") from None
