"""The reading of bodies: default deny at every level, in the words of all messages."""

from time import thread_time
from typing import Annotated, Any, Literal, Required

import pytest
from pydantic import Field, with_config
from typing_extensions import TypedDict

from service.errors import InvalidRequest, UnsupportedFeature
from service.openai.body import STRICT, Body, Int64, Many, Only, Rules, read_body
from service.settings.limits import LimitSettings

REFUSING = LimitSettings()
IGNORING = LimitSettings(unknown_fields="ignore")
RULES = Rules(
    hints=frozenset({"store", "cache_control"}),
    no_ops={"best_of": (1,), "tools": ([],)},
    refused={"best_of": "set n", "audio": "prompts are text"},
)


@with_config(STRICT)
class Text(TypedDict):
    """A part that is a text."""

    type: Literal["text"]
    text: str


@with_config(STRICT)
class Refusal(TypedDict):
    """A part that is a refusal."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[Text | Refusal, Field(discriminator="type"), Only("prompts are text")]


@with_config(STRICT)
class Said(TypedDict, total=False):
    """A message."""

    role: Required[str]
    content: str | Annotated[list[Part], Many]


class Sample(Body):
    """A body with a field of each kind."""

    rules = RULES
    messages: Annotated[list[Said], Many] = Field(min_length=1)
    seed: Int64 | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    stream: bool = False
    side: Literal["left", "right"] | None = None
    tools: Annotated[list[dict[str, Any]], Many] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


HI = {"role": "user", "content": "Hi"}


def read(limits: LimitSettings = REFUSING, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that are set in a body, and the places of unknown ones."""
    body, ignored = read_body(Sample, {"model": "m", "messages": [HI]} | fields, limits, 2048)
    return body.model_dump(exclude_unset=True), ignored


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": None}, "messages: required"),
        ({"messages": 3}, "messages: must be a list, got 3"),
        ({"messages": []}, "messages: must hold at least 1, got a list of 0"),
        ({"messages": ["Hi"]}, r"messages\[0\]: must be an object, got 'Hi'"),
        ({"messages": [HI, {"content": "a"}]}, r"messages\[1\].role: required"),
        ({"messages": [HI | {"role": 3}]}, r"messages\[0\].role: must be a text, got 3"),
        ({"messages": [HI | {"content": 3}]}, "content: must be a text or a list, got 3"),
        ({"messages": [HI | {"content": ["a"]}]}, r"content\[0\]: must be an object, got 'a'"),
        ({"messages": [HI | {"content": [{"type": "text"}]}]}, r"content\[0\].text: required"),
        ({"model": 3}, "model: must be a text, got 3"),
        ({"model": None}, "model: required"),
        ({"seed": 2**63}, "seed: an integer must fit into 64 bits, got 9223372036854775808"),
        ({"seed": -(2**63)}, "seed: an integer must fit into 64 bits, got -9"),
        ({"seed": 10**400}, "got an integer of 1329 bits"),
        ({"seed": "16"}, "seed: must be an integer, got '16'"),
        ({"seed": 1.5}, "seed: must be an integer, got 1.5"),
        ({"seed": "1"}, "seed: must be an integer, got '1'"),
        ({"seed": True}, "seed: must be an integer, got true"),
        ({"temperature": -1}, "temperature: must be at least 0, got -1"),
        ({"temperature": 2.5}, "temperature: must be at most 2, got 2.5"),
        ({"temperature": "1"}, "temperature: must be a number, got '1'"),
        ({"temperature": float("nan")}, "temperature: must be a finite number, got nan"),
        ({"stream": 1}, "stream: must be true or false, got 1"),
        ({"side": "up"}, "side: must be 'left' or 'right', got 'up'"),
        ({"chat_template_kwargs": 3}, "chat_template_kwargs: must be an object, got 3"),
    ],
)
def test_a_value_of_another_type_or_out_of_its_range_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        read(**fields)
    assert refused.value.param == refused.value.message.partition(":")[0]
    assert not isinstance(refused.value, UnsupportedFeature)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sed": 3}, "^sed: not a field of this route; did you mean 'seed'"),
        ({"x" * 100_000: 1}, "^x+[.]{3}: not a field"),
        ({"messages": [HI, HI | {"contents": 1}]}, r"^messages\[1\].contents: .*mean 'content'"),
        (
            {"messages": [HI | {"content": [{"type": "text", "text": "a", "txt": 1}]}]},
            r"messages\[0\].content\[0\].txt: .*'text'",
        ),
        (
            {"messages": [HI | {"content": [{"type": "file"}]}]},
            r"content\[0\].type: must be text or refusal, got 'file'; prompts are text",
        ),
        ({"messages": [HI | {"content": [{"text": "a"}]}]}, "refusal, got null"),
        ({"audio": {}}, "^audio: not served, prompts are text"),
        ({"best_of": 2}, "^best_of: not served, set n; the only value is 1, got 2"),
        ({"chat_template_kwargs": {"thinkng": 1}}, "kwargs.thinkng: .*did you mean 'thinking'"),
    ],
)
def test_a_field_that_is_not_served_is_refused_by_name_at_every_level(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=message) as refused:
        read(**fields)
    assert refused.value.param == refused.value.message.partition(":")[0]
    assert len(refused.value.param) < 60


def test_nulls_hints_and_values_that_change_nothing_are_left_out() -> None:
    part = {"type": "text", "text": "a"}
    asked: dict[str, Any] = {
        "messages": [
            {**HI, "cache_control": {"type": "ephemeral"}, "content": [{**part, "x": None}]}
        ],
        "seed": None,
        "store": True,
        "unknown": None,
        "best_of": 1,
        "tools": [],
        "chat_template_kwargs": {"thinking": True, "enable_thinking": None},
    }
    found, ignored = read(**asked)
    assert found == {
        "model": "m",
        "messages": [{"role": "user", "content": [part]}],
        "chat_template_kwargs": {"thinking": True},
    }
    assert ignored == ()


def test_a_number_without_a_fraction_is_an_integer() -> None:
    found, _ = read(seed=3.0, temperature=1.0)
    assert (found["seed"], found["temperature"]) == (3, 1.0)


def test_unknown_fields_that_are_off_or_that_routers_add_never_matter() -> None:
    routers: dict[str, Any] = {
        "no_stop_trim": False,
        "separate_reasoning": True,
        "stream_reasoning": True,
    }
    read(**routers, return_hidden_states=False, extras=[], usage=None)
    read(messages=[HI | {"thinking": False}], audio=False)
    with pytest.raises(UnsupportedFeature, match="separate_reasoning: not a field"):
        read(separate_reasoning="yes")
    with pytest.raises(UnsupportedFeature, match="zero: not a field"):
        read(zero=0)


def test_unknown_fields_are_left_out_and_named_where_the_settings_say_so() -> None:
    messages = [HI | {"id": number} for number in range(3)]
    found, ignored = read(IGNORING, messages=messages, num_ctx=4, chat_template_kwargs={"x": 1})
    assert ignored == ("chat_template_kwargs.x", "messages[].id", "num_ctx")
    assert found == {"model": "m", "messages": [HI] * 3, "chat_template_kwargs": {}}
    with pytest.raises(UnsupportedFeature, match="not served"):
        read(IGNORING, audio={})


@pytest.mark.parametrize("value", [None, [], "a", 3])
def test_a_body_is_an_object(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^body: must be an object, got"):
        read_body(Sample, value, REFUSING, 2048)


MANY: dict[str, dict[str, Any]] = {
    "fields": {str(number): number for number in range(40_000)},
    "keys": {"messages": [{str(number): number for number in range(40_000)}]},
    "texts": {"messages": ["Hi"] * 40_000},
    "objects": {"messages": [{} for _ in range(10_000)]},
    "tools": {"tools": [3] * 40_000},
}


@pytest.mark.parametrize("limits", [REFUSING, IGNORING], ids=["refuse", "ignore"])
@pytest.mark.parametrize("name", MANY)
def test_a_body_of_a_great_many_problems_is_refused_for_one(
    name: str, limits: LimitSettings
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(Sample, {"model": "m"} | MANY[name], limits, 2048)
    assert len(refused.value.message) < 200


@pytest.mark.timing
@pytest.mark.parametrize("limits", [REFUSING, IGNORING], ids=["refuse", "ignore"])
@pytest.mark.parametrize("name", MANY)
def test_a_body_of_a_great_many_problems_is_refused_at_once(
    name: str, limits: LimitSettings
) -> None:
    body = {"model": "m"} | MANY[name]
    took = []
    for _ in range(3):
        begin = thread_time()
        with pytest.raises(InvalidRequest):
            read_body(Sample, body, limits, 2048)
        took.append(thread_time() - begin)
    assert min(took) < 0.1
