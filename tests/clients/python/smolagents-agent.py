"""smolagents: a chat, and an agent that calls tools."""

from smolagents import OpenAIModel, ToolCallingAgent, tool
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

called = []


@tool
def get_weather(city: str) -> str:
    """Weather in a city

    Args:
        city: The city
    """
    called.append(city)
    return "12 degrees, light rain"


def model(name):
    return OpenAIModel(name, api_base=f"{URL}/v1", api_key="none", temperature=0)


@tried("chat")
def chat():
    answer = model(MODEL).generate([{"role": "user", "content": JAPAN}])
    expect(answer.content, "Tokyo")


@tried("agent that calls a tool")
def agent():
    agent = ToolCallingAgent(
        tools=[get_weather], model=model(TOOLS), max_steps=2, verbosity_level=0
    )
    agent.run(OSLO)
    expect(called, "Oslo")
