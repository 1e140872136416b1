"""LangChain's ChatOpenAI and LangGraph's react agent."""

import warnings

from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel, Field
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

warnings.simplefilter("ignore")


def model(name):
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key="none", temperature=0)


def get_weather(city: str) -> str:
    """Weather in a city"""
    return f"12 degrees, light rain in {city}"


class Place(BaseModel):
    """A city and its country"""

    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


@tried("chat")
def chat():
    expect(model(MODEL).invoke(JAPAN).content, "Tokyo")


@tried("stream")
def stream():
    expect("".join(str(part.content) for part in model(MODEL).stream(JAPAN)), "Tokyo")


@tried("structured output")
def structured():
    assert isinstance(model(MODEL).with_structured_output(Place).invoke(JAPAN), Place)


@tried("react agent with a tool")
def agent():
    agent = create_react_agent(model(TOOLS), [get_weather])
    answer = agent.invoke({"messages": [("user", OSLO)]})
    expect(answer["messages"][-1].content, "light rain")
