"""Haystack's chat generator, with a tool."""

from typing import Annotated

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried


@tool
def get_weather(city: Annotated[str, "The city"]) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


def generator(name, **options):
    return OpenAIChatGenerator(
        model=name,
        api_base_url=f"{URL}/v1",
        api_key=Secret.from_token("none"),
        generation_kwargs={"temperature": 0},
        **options,
    )


@tried("chat")
def chat():
    (reply,) = generator(MODEL).run([ChatMessage.from_user(JAPAN)])["replies"]
    expect(reply.text, "Tokyo")


@tried("tool call, streamed")
def tools():
    parts = []
    made = generator(TOOLS, tools=[get_weather], streaming_callback=parts.append)
    (reply,) = made.run([ChatMessage.from_user(OSLO)])["replies"]
    assert reply.tool_call.arguments == {"city": "Oslo"}, reply
