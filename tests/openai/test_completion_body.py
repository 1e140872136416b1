"""The bodies of completions: their prompts, and what is asked for beside them."""

from typing import Any

import pytest

from service.errors import InvalidRequest, UnsupportedFeature
from service.openai.body import read_body
from service.openai.completion import CompletionBody
from service.settings.limits import LimitSettings

CONTEXT = 2048


def read(limits: LimitSettings | None = None, **fields: Any) -> CompletionBody:
    """A completion's body."""
    body = {"model": "m", "prompt": "a"} | fields
    return read_body(CompletionBody, body, limits or LimitSettings(), CONTEXT)[0]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Hi", ["Hi"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        (["a"] * 64, ["a"] * 64),
        ([1] * 2000, [[1] * 2000]),
        ([""], [""]),
    ],
)
def test_each_form_of_prompts_is_read(prompt: Any, prompts: Any) -> None:
    assert read(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "prompt: required"),
        ("", "prompt: must not be empty"),
        ([], "prompt: must not be empty"),
        (3, "prompt: must be a text or a list, got 3"),
        ({}, "prompt: must be a text or a list, got an object of 0 keys"),
        ([1, "a"], r"prompt\[1\]: must be an integer, got 'a'"),
        (["a", 1], r"prompt\[1\]: must be a text, got 1"),
        ([[1], "a"], r"prompt\[1\]: must be a list, got 'a'"),
        ([[1], ["a"]], r"prompt\[1\]\[0\]: must be an integer, got 'a'"),
        ([-1], r"prompt\[0\]: must be at least 0"),
        ([2**70], r"prompt\[0\]: an integer must fit into 64 bits"),
        ([True], r"prompt\[0\]: must be an integer"),
        (["a"] * 65, "prompt: at most 64 prompts, got 65"),
        ([[1, 2]] * 65, "prompt: at most 64 prompts, got 65"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        read(prompt=prompt)
    assert refused.value.param == refused.value.message.partition(":")[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logprobs": True}, "logprobs: must be an integer, got true"),
        ({"logprobs": 21}, r"logprobs: must be 0\.\.20, got 21"),
        ({"logprobs": -1}, r"logprobs: must be 0\.\.20, got -1"),
        ({"max_tokens": 0}, "max_tokens: must be at least 1, got 0"),
        ({"max_tokens": -1, "echo": True}, "max_tokens: must be at least 0, got -1"),
        ({"min_tokens": 17}, "min_tokens: at most 16, the longest answer, got 17"),
        ({"suffix": "x", "echo": True}, "suffix: not beside echo"),
        ({"suffix": "x", "truncate_prompt_tokens": 3}, "suffix: not beside truncate_prompt_tokens"),
        ({"echo": 1}, "echo: must be true or false, got 1"),
        ({"prompt": ["a"] * 64, "n": 16, "logprobs": 1}, "logprobs: .* 1024 x 16 tokens x 2"),
    ],
)
def test_what_a_completion_cannot_be_asked_for_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        read(**fields)
    assert refused.value.param == refused.value.message.partition(":")[0]


@pytest.mark.parametrize("name", ["messages", "tool_choice", "top_logprobs", "documents"])
def test_the_fields_of_chats_are_unknown(name: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"^{name}: not a field"):
        read(**dict[str, Any]({name: 3}))


def test_no_tools_are_asked_for_nothing() -> None:
    assert read(**dict[str, Any](tools=[])) == read()


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, 16),
        ({"max_tokens": None}, 16),
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 2**40}, CONTEXT),
        ({"max_tokens": 0, "echo": True, "min_tokens": 1}, 1),
    ],
)
def test_a_completion_is_as_long_as_asked_for_or_16_tokens(
    fields: dict[str, Any], given: int
) -> None:
    capped = LimitSettings(default_max_tokens=99)
    assert read(capped, **fields).sampling({"max_tokens": 7}).max_tokens == given


def test_an_echo_of_the_prompt_alone_is_told() -> None:
    assert read(echo=True, max_tokens=0).only_echoes
    assert not read(echo=True).only_echoes
    assert not read(echo=True, max_tokens=1).only_echoes


@pytest.mark.parametrize(
    ("fields", "answer", "prompt"),
    [
        ({}, None, None),
        ({"logprobs": 0}, 0, None),
        ({"logprobs": 3, "echo": True}, 3, 3),
        ({"logprobs": 3, "echo": True, "prompt_logprobs": 1}, 3, 1),
        ({"echo": True}, None, None),
        ({"prompt_logprobs": 2}, None, 2),
    ],
)
def test_an_echo_has_the_log_probabilities_of_the_prompt(
    fields: dict[str, Any], answer: int | None, prompt: int | None
) -> None:
    sampling = read(**fields).sampling({})
    assert (sampling.logprobs, sampling.prompt_logprobs) == (answer, prompt)
