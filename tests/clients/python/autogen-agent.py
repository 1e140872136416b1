"""AutoGen: its client, an agent with a tool that is streamed, and a typed answer."""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel, Field
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried


class Place(BaseModel):
    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


def client(name):
    return OpenAIChatCompletionClient(
        model=name,
        base_url=f"{URL}/v1",
        api_key="none",
        temperature=0,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": "unknown",
        },
    )


def get_weather(city: str) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


@tried("chat")
def chat():
    asked = [UserMessage(content=JAPAN, source="user")]
    expect(asyncio.run(client(MODEL).create(asked)).content, "Tokyo")


@tried("agent, streamed")
def streamed():
    agent = AssistantAgent("guide", client(MODEL), model_client_stream=True)
    expect(asyncio.run(agent.run(task=JAPAN)).messages[-1].content, "Tokyo")


@tried("agent with a tool")
def tool():
    agent = AssistantAgent("weather", client(TOOLS), tools=[get_weather], system_message=None)
    expect(asyncio.run(agent.run(task=OSLO)).messages[-1].content, "light rain")


@tried("typed output")
def typed():
    agent = AssistantAgent("guide", client(MODEL), output_content_type=Place)
    assert isinstance(asyncio.run(agent.run(task=JAPAN)).messages[-1].content, Place)
