"""pydantic-ai: an agent that answers, one with a tool, one with a typed output."""

from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
exact = {"temperature": 0}


class Place(BaseModel):
    """A city and its country"""

    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


def get_weather(city: str) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


@tried("agent")
def agent():
    agent = Agent(OpenAIChatModel(MODEL, provider=provider), model_settings=exact)
    expect(agent.run_sync(JAPAN).output, "Tokyo")


@tried("agent with a tool")
def tool():
    model = OpenAIChatModel(TOOLS, provider=provider)
    agent = Agent(model, tools=[get_weather], model_settings=exact)
    expect(agent.run_sync(OSLO).output, "light rain")


@tried("agent with a tool, by Responses")
def responses():
    model = OpenAIResponsesModel(TOOLS, provider=provider)
    agent = Agent(model, tools=[get_weather], model_settings=exact)
    expect(agent.run_sync(OSLO).output, "light rain")


@tried("typed output")
def typed():
    model = OpenAIChatModel(TOOLS, provider=provider)
    agent = Agent(model, output_type=Place, model_settings=exact)
    assert isinstance(agent.run_sync(JAPAN).output, Place)
