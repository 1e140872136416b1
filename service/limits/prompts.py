"""The prompts of one OpenAI completion request."""

from typing import Any


def count_prompts(prompt: Any) -> int:
    """Number of prompts in `prompt`: a text or a list of token ids is one, another list several."""
    several = isinstance(prompt, list) and not all(isinstance(item, int) for item in prompt)
    return len(prompt) if several else 1
