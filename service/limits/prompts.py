"""The prompts of one OpenAI completion request."""

from collections.abc import Sequence
from typing import Any


def each_prompt(prompt: Any) -> Sequence[Any]:
    """The prompts in `prompt`: a text or a list of token ids is one, another list holds several."""
    several = isinstance(prompt, list) and not all(isinstance(item, int) for item in prompt)
    return prompt if several else [prompt]


def count_prompts(prompt: Any) -> int:
    """Number of prompts in `prompt`."""
    return len(each_prompt(prompt))
